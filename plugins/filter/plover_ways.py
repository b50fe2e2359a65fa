# SPDX-License-Identifier: GPL-3.0-or-later
"""The ways between members that role firewall tries: the shell around module_utils/_ansible/reach.py."""

from __future__ import annotations

from ansible_collections.plover.vmft.plugins.module_utils._ansible.layout.vms import of_host, seats
from ansible_collections.plover.vmft.plugins.module_utils._ansible.reach import ways
from ansible_collections.plover.vmft.plugins.plugin_utils.filters import clear


def plover_ways(vms, host, hostvars, hosts):
    """``hostvars`` as Ansible has them: host -> variables."""
    names = {name for vm in of_host(vms, host) for name in seats(vm).values() if name in hostvars}
    return ways(vms, host, {name: hostvars[name].get("plover_replication_address") for name in names}, hosts)


class FilterModule:
    def filters(self):
        return clear({"plover_ways": plover_ways})
