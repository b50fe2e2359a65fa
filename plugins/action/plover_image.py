# SPDX-License-Identifier: GPL-3.0-or-later
"""ansible.builtin.copy for large files: the play's output shows how far the transfer is; see modules/plover_image.py."""

from __future__ import annotations

import copy
import os
import shlex
import threading
import time

from ansible.errors import AnsibleError
from ansible.plugins.action.copy import ActionModule as Copy
from ansible.utils.display import Display
from ansible_collections.plover.vmft.plugins.plugin_utils.transfer import progress

EVERY_S = 5

display = Display()


class ActionModule(Copy):
    def run(self, tmp=None, task_vars=None):
        self._host = (task_vars or {}).get("inventory_hostname", "")
        return super().run(tmp, task_vars)

    def _transfer_file(self, local_path, remote_path):
        ended, began = threading.Event(), time.monotonic()
        watcher = threading.Thread(target=self._watch, args=(ended, began, os.path.getsize(local_path), remote_path), daemon=True)
        watcher.start()
        try:
            return super()._transfer_file(local_path, remote_path)
        finally:
            ended.set()
            watcher.join()
            if time.monotonic() - began >= EVERY_S:
                self._say(time.monotonic() - began, "has arrived, and is checked and put in its place now")

    def _watch(self, ended, began, total, remote_path):
        """Until ``ended``: shows what has arrived. That it cannot be seen is no reason to fail."""
        connection = copy.copy(self._connection)  # the transfer uses the other one at the same time
        while not ended.wait(EVERY_S):
            try:
                code, out, _err = connection.exec_command(f"stat -c %s {shlex.quote(remote_path)}", sudoable=False)
                done = int(out) if code == 0 else 0
            except (AnsibleError, OSError, ValueError):
                return
            if not ended.is_set():
                seconds = time.monotonic() - began
                self._say(seconds, progress(done, total, seconds))

    def _say(self, seconds, text):
        display.display(f"  {self._host} {seconds:6.1f} s  {os.path.basename(self._task.args['dest'])}: {text}")
