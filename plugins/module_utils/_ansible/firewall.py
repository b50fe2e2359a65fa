# SPDX-License-Identifier: GPL-3.0-or-later
"""The members' ports of one host, and the rules that keep them for the members. Pure.

Our own table drops what is not from a member on the way to it. It opens nothing: a packet must pass every table. So where
firewalld or ufw rules, it is also told to let the members in.
"""

from __future__ import annotations

import ipaddress
from xml.sax.saxutils import quoteattr

from ..plover.config.settings import SETTINGS
from .layout.known import REPLICA_SEATS
from .layout.vms import port_of, seats

TABLE = "inet plover"
MANAGED = "Ansible managed (role firewall)"
ROCE_PORT = 4791  # RDMA over Ethernet (RoCE v2)


def openings(vms, host, addresses):
    """Who may reach which port of ``host``: [{proto, port, sources}], sorted. ``addresses``: host -> its address on the replication
    link. Raises ValueError."""
    found = {}
    for vm in vms:
        named = seats(vm)
        if host not in named.values():
            continue
        others = {seat: _address(vm, name, addresses) for seat, name in named.items() if name != host}
        replicas = {address for seat, address in others.items() if seat in REPLICA_SEATS}
        for proto, port, sources in _ports(vm, host in (named.get(seat) for seat in REPLICA_SEATS), set(others.values()), replicas):
            found.setdefault((proto, port), set()).update(sources)
    return [
        {"proto": proto, "port": port, "sources": sorted(who, key=ipaddress.IPv4Address)} for (proto, port), who in sorted(found.items())
    ]


def _ports(vm, is_replica, members, replicas):
    out = [("tcp", _port(vm, "port"), members)]
    if vm.get("disks") and is_replica:
        out.append(("tcp", _port(vm, "disk_port"), replicas))  # beside a replica of an earlier version
    if (vm.get("settings") or {}).get("transport") == "rdma":
        out.append(("udp", ROCE_PORT, members))
    return out


def _port(vm, key):
    port = port_of(vm if key == "port" else vm.get("settings") or {}, key)
    if port is None or not SETTINGS[key].in_range(port):
        raise ValueError(f"{key} of VM {vm.get('name')}: must be a number, {SETTINGS[key].low} to {SETTINGS[key].high}")
    return port


def _address(vm, host, addresses):
    address = addresses.get(host)
    if not address:
        raise ValueError(f"plover_replication_address of {host}: is missing; VM {vm.get('name')} needs it")
    try:
        return str(ipaddress.IPv4Address(address))
    except ValueError as error:
        raise ValueError(f"plover_replication_address of {host}: {address!r} is not an IPv4 address") from error


# ---- the rules ---------------------------------------------------------------------------------------------------
def nft(opened):
    """The file for ``nft -f``: the whole table in one transaction. It is about TCP ports of Plover alone.

    ``fib``: a member's packet comes in by the card that leads back to the member, not by the clients' bridge.
    """
    tcp = [opening for opening in opened if opening["proto"] == "tcp"]
    if not tcp:
        return ""
    rules = [
        f"tcp dport {opening['port']} ip saddr {{ {', '.join(opening['sources'])} }} fib saddr . iif oif exists return" for opening in tcp
    ]
    rules.append(f"tcp dport {{ {', '.join(str(opening['port']) for opening in tcp)} }} counter drop")
    body = ["\tchain input {", "\t\ttype filter hook input priority -10; policy accept;", *(f"\t\t{rule}" for rule in rules), "\t}"]
    return "\n".join([f"# {MANAGED}", f"table {TABLE}", f"delete table {TABLE}", f"table {TABLE} {{", *body, "}", ""])


def firewalld(opened):
    """The file of a firewalld policy: it lets the members in, whatever zone their card is in."""
    if not opened:
        return ""
    rules = [
        f'  <rule family="ipv4"><source address={quoteattr(source)}/>'
        f'<port port="{opening["port"]}" protocol="{opening["proto"]}"/><accept/></rule>'
        for opening in opened
        for source in opening["sources"]
    ]
    head = [
        '<?xml version="1.0" encoding="utf-8"?>',
        f"<!-- {MANAGED} -->",
        '<policy priority="-1" target="CONTINUE">',
        "  <short>Plover</short>",
        "  <description>Members of Plover reach each other.</description>",
    ]
    return "\n".join([*head, *rules, '  <ingress-zone name="ANY"/>', '  <egress-zone name="HOST"/>', "</policy>", ""])


def ufw(opened):
    """The arguments of ``ufw`` that let the members in, as ``ufw show added`` says them, without the comment."""
    return [
        f"allow from {source} to any port {opening['port']} proto {opening['proto']}" for opening in opened for source in opening["sources"]
    ]


def rules(vms, host, addresses):
    """All of it for one host. Raises ValueError."""
    opened = openings(vms, host, addresses)
    return {"openings": opened, "nft": nft(opened), "firewalld": firewalld(opened), "ufw": ufw(opened)}
