# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters that convert between plover_vms and the members' settings files."""

from __future__ import annotations

from ansible_collections.plover.vmft.plugins.module_utils._ansible.settings import inventory_of, settings_of
from ansible_collections.plover.vmft.plugins.plugin_utils.filters import clear


def _settings(vm, member, hostvars, defaults=None):
    """``hostvars`` as Ansible has them: host -> variables."""
    seats = [vm[seat] for seat in ("primary", "secondary", "witness")]
    addresses = {host: hostvars[host].get("plover_replication_address") for host in seats if host in hostvars}
    return settings_of(vm, member, addresses, {**(defaults or {}), **_kept(vm, hostvars)})


def _kept(vm, hostvars):
    """What the VM keeps of the settings that a replica has, as role runtime (tasks_from: earlier) has seen them."""
    looks = [hostvars[vm[seat]].get("runtime_earlier") or {} for seat in ("primary", "secondary") if vm[seat] in hostvars]
    found = [result for look in looks for result in look.get("results") or []]
    words = {word for one in found if (one.get("item") or {}).get("name") == vm["name"] for word in one.get("stdout", "").split()}
    return {"cpu_unnamed": "unnamed" in words, "tcg_kept": "tcg" in words, "machine": _machine(words)}


def _machine(words):
    """The machine type that the VM was made with; of a new VM the one that both hosts' QEMUs mean by "pc". Empty: unknown."""
    for which in ("machine=", "new="):
        found = {word[len(which) :] for word in words if word.startswith(which)}
        if found:
            return found.pop() if len(found) == 1 else ""
    return ""


FILTERS = {"plover_settings": _settings, "plover_inventory": inventory_of}


class FilterModule:
    def filters(self):
        return clear(FILTERS)
