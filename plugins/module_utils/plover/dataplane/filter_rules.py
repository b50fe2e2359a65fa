# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules of nftables that hold a VM to what it was given, as text for ``nft -f``. Pure.

The chain sits at the ingress of the VM's TAP (family netdev), in front of the bridge: a bridge takes STP, LLDP and pause
frames before any chain of its own family sees them. The kernel has taken the outer VLAN tag off by then, so ``meta protocol``
is what the tag was in front of, and ``ether type`` is the tag's.
"""

from __future__ import annotations

import ipaddress

from ..config.spoof import DHCP, ROUTER, STRICT, Given

# Why a frame is dropped; a counter each.
REASONS = (
    "source_mac",
    "link_control",
    "vlan_tag",
    "protocol",
    "arp_sender",
    "ipv4_source",
    "ipv6_source",
    "neighbour",
    "dhcp",
    "router",
    "malformed",
)
WHOLE = "meta l4proto != 255"  # it is known: the headers are there in front of it
# Behind a fragment header they could move what is checked into the next fragment (RFC 7112).
EXTENSIONS = "{ 0, 43, 44, 51, 60 }"
ALL_BITS = (1 << 128) - 1


def table(tap: str) -> str:
    """Its name, one for each TAP of a host."""
    return f"plover_tap_{tap}"


def remove(tap: str) -> str:
    """Also where there is none: it is made first."""
    return f"table netdev {table(tap)}\ndelete table netdev {table(tap)}\n"


def replace(tap: str, given: Given) -> str:
    """The whole table in one transaction, in place of an older one."""
    counters = [f"counter {reason} {{ }}" for reason in REASONS]
    chains = {
        "neighbour": _neighbour(given),
        "arp_from_vm": _arp(given),
        "ipv4_from_vm": _ipv4(given),
        "ipv6_from_vm": _ipv6(given),
        "from_vm": [f'type filter hook ingress device "{tap}" priority 0; policy accept;', *_frame(given)],
    }
    lines = [f"table netdev {table(tap)} {{", *(f"\t{line}" for line in counters)]
    for name, rules in chains.items():
        lines += [f"\tchain {name} {{", *(f"\t\t{rule}" for rule in rules), "\t}"]
    return remove(tap) + "\n".join([*lines, "}", ""])


def _drop(reason: str) -> str:
    return f'counter name "{reason}" drop'


def _set(values: tuple[str, ...] | tuple[int, ...]) -> str:
    return "{ " + ", ".join(map(str, values)) + " }"


def _frame(given: Given) -> list[str]:
    mac = given.mac.replace(":", "")
    return [
        f"ether saddr != {given.mac} {_drop('source_mac')}",
        f"ether daddr and ff:ff:ff:ff:ff:f0 == 01:80:c2:00:00:00 {_drop('link_control')}",
        *_vlans(given),
        "meta protocol arp goto arp_from_vm",
        # A RARP tells switches where a MAC is, and asks for nothing: QEMU and Plover send it.
        f"meta protocol 0x8035 @nh,64,48 0x{mac} @nh,144,48 0x{mac} accept",
        f"meta protocol 0x8035 {_drop('arp_sender')}",
        "meta protocol ip goto ipv4_from_vm",
        "meta protocol ip6 goto ipv6_from_vm",
        *([_drop("protocol")] if given.check == STRICT else []),
    ]


def _vlans(given: Given) -> list[str]:
    if not given.vlans:
        return [f"ether type {{ 0x8100, 0x88a8 }} {_drop('vlan_tag')}"]
    return [
        f"ether type 0x88a8 {_drop('vlan_tag')}",
        f"ether type 0x8100 vlan id != {_set(given.vlans)} {_drop('vlan_tag')}",
        f"meta protocol {{ 0x8100, 0x88a8 }} {_drop('vlan_tag')}",  # a second tag
    ]


def _arp(given: Given) -> list[str]:
    out = [
        f"arp htype != 1 {_drop('arp_sender')}",
        f"arp ptype != 0x0800 {_drop('arp_sender')}",
        f"arp hlen != 6 {_drop('arp_sender')}",
        f"arp plen != 4 {_drop('arp_sender')}",
        f"arp saddr ether != {given.mac} {_drop('arp_sender')}",
    ]
    if given.check != STRICT:
        return [*out, "accept"]
    out.append("arp operation request arp saddr ip 0.0.0.0 accept")  # is an address free? (RFC 5227)
    if given.ipv4:
        out.append(f"arp operation {{ request, reply }} arp saddr ip {_set(given.ipv4)} accept")
    return [*out, _drop("arp_sender")]


def _ipv4(given: Given) -> list[str]:
    out = [] if DHCP in given.services else [f"udp sport 67 {_drop('dhcp')}", f"udp dport 68 {_drop('dhcp')}"]
    if given.check == STRICT:
        out.append("ip saddr 0.0.0.0 udp sport 68 udp dport 67 accept")
        out.append((f"ip saddr != {_set(given.ipv4)} " if given.ipv4 else "") + _drop("ipv4_source"))
    return [*out, f"{WHOLE} accept", _drop("malformed")]


def _ipv6(given: Given) -> list[str]:
    out = [f"frag nexthdr {EXTENSIONS} {_drop('malformed')}"]
    if DHCP not in given.services:
        out += [f"udp sport 547 {_drop('dhcp')}", f"udp dport 546 {_drop('dhcp')}"]
    if ROUTER not in given.services:
        out.append(f"icmpv6 type {{ nd-router-advert, nd-redirect }} {_drop('router')}")
    if given.check == STRICT:
        asks = "icmpv6 type { nd-router-solicit, nd-neighbor-solicit, mld-listener-report, mld2-listener-report }"
        out += [
            "icmpv6 type nd-neighbor-advert jump neighbour",
            "ip6 saddr :: icmpv6 type nd-neighbor-solicit jump neighbour",  # is an address free? (RFC 4862)
            f"ip6 saddr :: {asks} accept",
            f"ip6 saddr != {_set(given.ipv6)} {_drop('ipv6_source')}",
        ]
    return [*out, f"{WHOLE} accept", _drop("malformed")]


def _neighbour(given: Given) -> list[str]:
    """Returns if the address that a solicitation or advertisement is about is the VM's (its bytes 8 to 23, RFC 4861)."""
    out = []
    for text in given.ipv6:
        network = ipaddress.IPv6Network(text)
        mask, value = int(network.netmask), int(network.network_address)
        masked = "" if mask == ALL_BITS else f" & 0x{mask:032x}"
        out.append(f"@th,64,128{masked} == 0x{value:032x} return" if mask else "return")
    return [*out, _drop("neighbour")]
