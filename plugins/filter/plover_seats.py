# SPDX-License-Identifier: GPL-3.0-or-later
"""Which VMs a host has a seat in: the shell around module_utils/_ansible/layout/vms.py."""

from __future__ import annotations

from ansible_collections.plover.vmft.plugins.module_utils._ansible.layout.vms import of_host, whole_within, without_secrets
from ansible_collections.plover.vmft.plugins.plugin_utils.filters import clear


def plover_seats(vms, host=None, seats=None, hosts=None, whole=False):
    """``hosts``: those of this run; None: all. ``whole``: with secrets and settings, so not for a loop or a result."""
    there = list(vms) if hosts is None else whole_within(vms, hosts)
    found = there if host is None else of_host(there, host, seats)
    return found if whole else [without_secrets(vm) for vm in found]


class FilterModule:
    def filters(self):
        return clear({"plover_seats": plover_seats})
