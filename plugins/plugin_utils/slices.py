# SPDX-License-Identifier: GPL-3.0-or-later
"""An action plugin that runs the module of its own name in slices and shows the daemon's progress in between."""

from __future__ import annotations

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

SLICE_S = 5
SLICES_MAX = 10_000  # far more than any timeout_s needs

display = Display()


class SlicedAction(ActionBase):
    TRANSFERS_FILES = False

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        shown, unfinished = 0, None
        for _slice in range(SLICES_MAX):
            arguments = {**self._task.args, "slice": {"for_s": SLICE_S, "unfinished": unfinished}}
            reply = self._execute_module(module_args=arguments, task_vars=task_vars)
            shown = self._show(reply, shown, task_vars)
            unfinished = reply.pop("unfinished", None)
            if unfinished is None:
                break
        result.update(reply)
        return result

    @staticmethod
    def _show(reply, shown, task_vars):
        """Shows new progress of waits that take longer than one slice; returns the number of lines shown so far."""
        progress = reply.get("progress") or []
        if not shown and "unfinished" not in reply:
            return shown
        for said in progress[shown:]:
            display.display(f"  {(task_vars or {}).get('inventory_hostname', '')} {said['at_s']:6.1f} s  {said['text']}")
        return len(progress)
