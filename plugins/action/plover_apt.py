# SPDX-License-Identifier: GPL-3.0-or-later
"""ansible.builtin.apt for many packages: the play's output shows how far the installation is; see modules/plover_apt.py."""

from __future__ import annotations

from ansible.plugins.action import ActionBase
from ansible_collections.plover.vmft.plugins.plugin_utils.installing import look, said
from ansible_collections.plover.vmft.plugins.plugin_utils.watched import Watched

LABEL = "packages"


class ActionModule(ActionBase):
    TRANSFERS_FILES = False

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        host = (task_vars or {}).get("inventory_hostname", "")
        arguments = {**self._task.args, "install_recommends": False}
        with Watched(self._connection, host, LABEL, look, lambda out, seconds: said(out)):
            result.update(self._execute_module(module_name="ansible.builtin.apt", module_args=arguments, task_vars=task_vars))
        return result
