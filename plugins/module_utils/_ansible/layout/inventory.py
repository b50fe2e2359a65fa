# SPDX-License-Identifier: GPL-3.0-or-later
"""Problems of an inventory that show without connections or facts. Pure.

Every problem at once, one line each: the variable, what is wrong, the remedy.
"""

from __future__ import annotations

from . import shared, variables, vms
from .known import VMS_MAX


def problems(given, hosts, groups, head=lambda path: b""):
    """One sentence per problem; an empty list if there is none.

    ``given``: plover_vms, of any type. ``hosts``: name -> its variables. ``groups``: name -> its hosts.
    ``head(path)``: the first bytes of a file on this machine, None if it is no file.
    """
    entries, out = _entries(given)
    groups = {str(name): [str(host) for host in members] for name, members in groups.items()}
    hosts = {str(name): values for name, values in hosts.items()}
    for at, vm in entries:
        out += vms.problems(at, vm, hosts, groups, head)
    out += shared.problems(entries, hosts)
    out += variables.problems(given, entries, hosts, groups)
    return list(dict.fromkeys(out))


def _entries(given):
    """([(its place, VM)], problems) of plover_vms."""
    example = "each VM like {name: demo, primary: a, secondary: b, witness: c, ...}; see playbooks/inventory.example.yml"
    if given is None:
        return [], [f"plover_vms: is missing; list the VMs to protect in the vars of group plover, {example}"]
    if not isinstance(given, list):
        return [], [f"plover_vms: must be a list, {example}"]
    if len(given) > VMS_MAX:
        return [], [f"plover_vms: {len(given)} VMs are too many; at most {VMS_MAX} in one inventory"]
    entries = [(f"plover_vms[{n}]", vm) for n, vm in enumerate(given)]
    return (
        [(at, vm) for at, vm in entries if isinstance(vm, dict)],
        [f"{at}: must be a mapping, {example}" for at, vm in entries if not isinstance(vm, dict)],
    )
