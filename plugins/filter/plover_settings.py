# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters that convert between plover_vms and the members' settings files."""

from __future__ import annotations

from ansible_collections.plover.vmft.plugins.module_utils._ansible.settings import inventory_of, settings_of
from ansible_collections.plover.vmft.plugins.plugin_utils.filters import clear


def _settings(vm, member, hostvars, defaults=None):
    """``hostvars`` as Ansible has them: host -> variables."""
    seats = [vm[seat] for seat in ("primary", "secondary", "witness")]
    addresses = {host: hostvars[host].get("plover_replication_address") for host in seats if host in hostvars}
    return settings_of(vm, member, addresses, {**(defaults or {}), "cpu_unnamed": _cpu_unnamed(vm, hostvars)})


def _cpu_unnamed(vm, hostvars):
    """Whether a replica has settings of an earlier version, as role runtime (tasks_from: cpus) has seen them."""
    looks = [hostvars[vm[seat]].get("runtime_cpus") or {} for seat in ("primary", "secondary") if vm[seat] in hostvars]
    found = [result for look in looks for result in look.get("results") or []]
    return any((one.get("item") or {}).get("name") == vm["name"] and "unnamed" in one.get("stdout", "") for one in found)


FILTERS = {"plover_settings": _settings, "plover_inventory": inventory_of}


class FilterModule:
    def filters(self):
        return clear(FILTERS)
