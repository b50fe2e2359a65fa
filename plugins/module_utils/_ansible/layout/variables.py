# SPDX-License-Identifier: GPL-3.0-or-later
"""The variables of hosts and groups: what they hold, and that each name is a machine of its own. Pure."""

from __future__ import annotations

import ipaddress

from .known import GROUP, PLAY_VARIABLES, REMOVED, REPLICAS, VARIABLES, WITNESSES, close_to, unfit
from .vms import seats

PREFIX = "plover_"
_ADDRESS = "must be its IPv4 address on the replication link"


class Unresolved(str):
    """Stands for the value of a variable whose template failed; the text is why."""

    __slots__ = ()


def problems(given, entries, hosts, groups):
    named = [host for _at, vm in entries for host in seats(vm).values()]
    ours = [host for host in dict.fromkeys([*groups.get(GROUP, ()), *named]) if isinstance(hosts.get(host), dict)]
    out = _group_names(groups)
    said = {}  # text -> the hosts of which it is true: a group's variable is one error, however many hosts it has
    for host in ours:
        for name, text in _of_host(hosts[host], given, any(PREFIX + "vms" in hosts[h] for h in ours)):
            said.setdefault((name, text), []).append(host)
    out += [f"{name} of {', '.join(where)}: {text}" for (name, text), where in said.items()]
    return out + _twins(ours, hosts, set(named))


def _group_names(groups):
    """The groups that the play goes by."""
    out = []
    if not groups.get(GROUP):
        meant = close_to(GROUP, [name for name in groups if name not in (GROUP, REPLICAS, WITNESSES)])
        remedy = meant or f"make one with children {REPLICAS} and {WITNESSES}"
        return [f"group {GROUP}: is missing or has no hosts; {remedy}"]
    for name in (REPLICAS, WITNESSES):
        outside = [host for host in groups.get(name, ()) if host not in groups[GROUP]]
        if outside:
            out.append(f"group {name}: {', '.join(outside)} is not in group {GROUP}; make {name} one of its children")
    return out


def _of_host(values, given, somewhere):
    """(variable, what is wrong) of one host."""
    misspelt = set()
    for name, value in values.items():
        if not name.startswith(PREFIX):
            continue
        if isinstance(value, Unresolved):
            yield name, f"its template fails: {value}; correct it"
        elif name in PLAY_VARIABLES:
            continue
        elif name not in VARIABLES:
            meant = close_to(name, VARIABLES)
            misspelt.add(REMOVED.get(name) or meant[len("did you mean ") : -1])
            yield name, (f"is not known; write {REMOVED[name]}" if name in REMOVED else f"no role knows it; {meant or 'remove it'}")
        elif value is None and name != "plover_vms":
            yield name, "is empty; give it a value, or remove it"
        elif unfit(VARIABLES[name], value):
            yield name, unfit(VARIABLES[name], value)
    address = values.get("plover_replication_address")
    if not (_is_link_address(address) or isinstance(address, Unresolved) or "plover_replication_address" in misspelt):
        yield (
            "plover_replication_address",
            (f"is missing; it {_ADDRESS}" if address in (None, "") else f"{address} {_ADDRESS}, without prefix"),
        )
    if somewhere and values.get("plover_vms") != given and not isinstance(values.get("plover_vms"), Unresolved):
        yield "plover_vms", f"is not the same as on the other hosts; set it once, in the vars of group {GROUP}"


def _is_link_address(text):
    try:
        found = ipaddress.IPv4Address(text) if isinstance(text, str) else None
    except ValueError:
        return False
    return found is not None and not (found.is_loopback or found.is_multicast or found.is_unspecified)


def _twins(ours, hosts, used):
    """Two names of one machine, or one address on two."""
    machines, addresses, out = {}, {}, []
    for host in ours:
        values = hosts[host]
        machine = (str(values.get("ansible_host") or ""), str(values.get("ansible_port") or 22))
        address = values.get("plover_replication_address")
        remote = machine[0] and values.get("ansible_connection") != "local"
        twin = machines.setdefault(machine, host) if remote else host
        other = addresses.setdefault(address, host) if _is_link_address(address) else host
        if twin != host:
            out.append(
                f"ansible_host of {host}: {machine[0]} is that of {twin} too; each name must be a machine of its own, correct one of them"
            )
        elif other != host:
            out.append(f"plover_replication_address of {host}: {address} is that of {other} too; give each host its own")
    return out
