# SPDX-License-Identifier: GPL-3.0-or-later
"""The packet filter's rules for the members' ports of a host: the shell around module_utils/_ansible/firewall.py."""

from __future__ import annotations

from ansible_collections.plover.vmft.plugins.module_utils._ansible.firewall import rules
from ansible_collections.plover.vmft.plugins.module_utils._ansible.layout.vms import of_host, seats
from ansible_collections.plover.vmft.plugins.plugin_utils.filters import clear


def plover_firewall(vms, host, hostvars):
    """``hostvars`` as Ansible has them: host -> variables."""
    here = of_host(vms, host)
    names = {name for vm in here for name in seats(vm).values()}
    return rules(here, host, {name: hostvars[name].get("plover_replication_address") for name in names if name in hostvars})


class FilterModule:
    def filters(self):
        return clear({"plover_firewall": plover_firewall})
