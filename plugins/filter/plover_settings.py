# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters between plover_vms and the settings files of its members."""
from __future__ import annotations

from ansible.errors import AnsibleFilterError
from ansible_collections.plover.vmft.plugins.module_utils.plover_settings import inventory_of, settings_of


def _clear(name, function):
    def called(*arguments, **named):
        try:
            return function(*arguments, **named)
        except (ValueError, KeyError, TypeError, AttributeError, StopIteration) as error:
            said = str(error) if isinstance(error, ValueError) else f"{error!r}; see playbooks/inventory.example.yml"
            raise AnsibleFilterError(f"plover.vmft.{name}: {said}") from error
    return called


def _settings(vm, member, hostvars, defaults=None):
    """``hostvars`` as Ansible has them: host -> variables."""
    seats = [vm[seat] for seat in ("primary", "secondary", "witness")]
    addresses = {host: hostvars[host].get("plover_replication_address") for host in seats if host in hostvars}
    return settings_of(vm, member, addresses, defaults)


FILTERS = {"plover_settings": _settings, "plover_inventory": inventory_of}


class FilterModule:
    def filters(self):
        return {name: _clear(name, function) for name, function in FILTERS.items()}
