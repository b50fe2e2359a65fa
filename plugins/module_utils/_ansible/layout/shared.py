# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds values that two VMs must not share: names, MACs, addresses; on one host also ports, TAPs and images. Pure."""

from __future__ import annotations

import posixpath

from ...plover.config.settings import SETTINGS
from .. import nics
from .known import REPLICA_SEATS
from .vms import port_of, seats


def problems(entries, hosts):
    return [*_everywhere(entries, hosts), *_on_one_host(entries)]


def _everywhere(entries, hosts):
    taken, out = {}, []
    for at, vm in entries:
        own = [(at, "name", vm.get("name")), (at, "cluster_id", vm.get("cluster_id"))]
        own[1:1] = [(f"{at}{place}", "mac", card.get("mac")) for place, card in nics.of(vm)]
        for where, key, value in own:
            if isinstance(value, str) and value and taken.setdefault((key, value.lower()), at) != at:
                out.append(f"{where}.{key}: {value} is used by two VMs, by {taken[key, value.lower()]} too; each needs its own")
        for place, card in nics.of(vm):
            out += _addresses(at, place, card, hosts, taken)
    return out


def _addresses(at, place, card, hosts, taken):
    given, out, where = card.get("addresses"), [], f"{at}{place}.addresses"
    for address in dict.fromkeys(a for a in (given if isinstance(given, list) else []) if isinstance(a, str)):
        first = taken.setdefault(("address", address), at)
        if first != at:
            out.append(f"{where}: {address} is used by two VMs, by {first} too; each needs its own")
        owner = next(
            (
                (host, name)
                for host, values in hosts.items()
                if isinstance(values, dict)
                for name in ("plover_replication_address", "ansible_host")
                if values.get(name) == address
            ),
            None,
        )
        if owner:
            out.append(f"{where}: {address} is the {owner[1]} of {owner[0]}; give the VM an address of its own")
    return out


def _on_one_host(entries):
    """A line for each key whose value is used twice on one host, by another VM or by another key of the same VM."""
    claims = [(at, key, what, value, host) for at, vm in entries for key, what, value, where in _claims(at, vm) for host in where]
    ports = {value for _at, _key, what, value, _host in claims if what == "port"}
    first, lost = {}, {}
    for at, key, what, value, host in claims:
        owner = first.setdefault((what, value, host), (at, key))
        if owner != (at, key):
            lost.setdefault((at, key, what, value, owner), []).append(host)
    out = []
    for (at, key, what, value, owner), where in lost.items():
        places = ", ".join(where)
        if what == "image":
            out.append(f"{key}: {value} is the image of two disks on {places}, of {owner[1]} too; give each its own")
            continue
        by = f"by {owner[0]} too" if owner[0] != at else f"by {owner[1]} too"
        remedy = f"give each its own, like {_free(ports)}" if what == "port" else "give each VM its own"
        out.append(f"{at}.{key}: {value} is used twice on {places}, {by}; {remedy}")
    return out


def _free(ports):
    return next(port for port in range(SETTINGS["port"].default, 65536) if port not in ports)


def _claims(at, vm):
    """(key, what, value, hosts) of everything that a VM uses on its hosts."""
    named = seats(vm)
    replicas = list(dict.fromkeys(named[seat] for seat in REPLICA_SEATS if seat in named))
    port = port_of(vm)
    if port is not None:
        yield "port", "port", port, list(dict.fromkeys(named.values()))
    for number, (place, _card) in enumerate(nics.of(vm)):
        tap = nics.tap_of(vm, number)
        if isinstance(tap, str):
            yield f"{place}.tap"[1:], "tap", tap, replicas
    disks = vm.get("disks") if isinstance(vm.get("disks"), list) else []
    for n, disk in enumerate(disks):
        path = disk.get("path") if isinstance(disk, dict) else None
        if isinstance(path, str) and path.startswith("/"):
            yield f"{at}.disks[{n}].path", "image", posixpath.normpath(path), replicas
