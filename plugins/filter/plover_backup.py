# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration of a deployment, to be kept and to be brought back."""
from __future__ import annotations

from ansible.errors import AnsibleFilterError
from ansible_collections.plover.vmft.plugins.plugin_utils.backup import backup_of, inventory_from


def _clear(name, function):
    def called(*arguments, **named):
        try:
            return function(*arguments, **named)
        except ValueError as error:
            raise AnsibleFilterError(f"plover.vmft.{name}: {error}") from error
    return called


FILTERS = {"plover_backup": backup_of, "plover_restore": inventory_from}


class FilterModule:
    def filters(self):
        return {name: _clear(name, function) for name, function in FILTERS.items()}
