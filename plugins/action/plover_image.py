# SPDX-License-Identifier: GPL-3.0-or-later
"""ansible.builtin.copy for large files: the play's output shows how far the transfer is; see modules/plover_image.py."""

from __future__ import annotations

import os
import shlex

from ansible.plugins.action.copy import ActionModule as Copy
from ansible_collections.plover.vmft.plugins.plugin_utils.transfer import progress
from ansible_collections.plover.vmft.plugins.plugin_utils.watched import EVERY_S, Watched


class ActionModule(Copy):
    def run(self, tmp=None, task_vars=None):
        self._host = (task_vars or {}).get("inventory_hostname", "")
        return super().run(tmp, task_vars)

    def _transfer_file(self, local_path, remote_path):
        total = os.path.getsize(local_path)
        watched = Watched(
            self._connection,
            self._host,
            os.path.basename(self._task.args["dest"]),
            lambda seconds: f"stat -c %s {shlex.quote(remote_path)}",
            lambda out, seconds: progress(int(out or 0), total, seconds),
        )
        try:
            with watched:
                return super()._transfer_file(local_path, remote_path)
        finally:
            if watched.seconds >= EVERY_S:
                watched.say("has arrived, and is checked and put in its place now")
