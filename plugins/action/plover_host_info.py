# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs module plover_host_info. A host that cannot be examined does not fail the task: the result says why, and the filter that
checks the hosts reports it in one line. Clocks are compared here, as only this machine knows when each call began and ended."""

from __future__ import annotations

import time

from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.plugins.action import ActionBase
from ansible_collections.plover.vmft.plugins.module_utils._ansible.layout.failures import failure_of


class ActionModule(ActionBase):
    TRANSFERS_FILES = False

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        began = time.time()
        try:
            reply = self._execute_module(task_vars=task_vars)
        except AnsibleConnectionFailure as error:
            return {**result, "changed": False, "host": {"failure": failure_of(error, connection=True)}}
        except AnsibleError as error:
            return {**result, "changed": False, "host": {"failure": failure_of(error, connection=False)}}
        ended = time.time()
        if reply.get("failed"):
            said = " ".join(str(reply.get(key) or "") for key in ("module_stderr", "module_stdout", "msg"))
            return {**result, "changed": False, "host": {"failure": failure_of(said, connection=False)}}
        seen = reply["host"]
        seen.update(clock_offset_s=seen["clock_s"] - (began + ended) / 2, clock_error_s=(ended - began) / 2)
        result.update(reply)
        return result
