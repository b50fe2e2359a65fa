# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames as a guest may send them, honest and forged. Each case: its name, why it is dropped (empty: it passes), the frame."""

from __future__ import annotations

import ipaddress
import struct
from typing import NamedTuple

MAC, OTHER_MAC, HOST_MAC = "52:54:00:70:6c:01", "52:54:00:70:6c:02", "02:70:6c:00:00:01"
OWN, OTHER, HOST = "192.168.79.50", "192.168.79.51", "192.168.79.1"
OWN6, OTHER6, GATEWAY6, GIVEN6 = "fe80::5054:ff:fe70:6c01", "2001:db8:1::9", "fe80::1", "2001:db8::50"
GIVEN = {"mac": MAC, "addresses": [OWN], "networks": ["2001:db8::/64"], "vlans": [], "serves": []}
ALL_NODES, BROADCAST = "33:33:00:00:00:01", "ff:ff:ff:ff:ff:ff"
IP4, IP6, ARP, RARP, VLAN, QINQ = 0x0800, 0x86DD, 0x0806, 0x8035, 0x8100, 0x88A8
UDP, ICMP6, FRAGMENT, OPTIONS, HOP_BY_HOP = 17, 58, 44, 60, 0


class Case(NamedTuple):
    name: str
    reason: str  # in mode strict
    frame: bytes
    in_mac_mode: bool = False  # dropped there as well


def mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def ether(kind: int, payload: bytes, source: str = MAC, to: str = BROADCAST, tags: tuple[tuple[int, int], ...] = ()) -> bytes:
    head = mac(to) + mac(source) + b"".join(struct.pack("!HH", *tag) for tag in tags)
    return head + struct.pack("!H", kind) + payload


def arp(ip: str, hardware: str = MAC, operation: int = 1, target: str = HOST, htype: int = 1, **more) -> bytes:
    words = struct.pack("!HHBBH", htype, IP4, 6, 4, operation), mac(hardware), packed(ip), b"\0" * 6, packed(target)
    return ether(ARP, b"".join(words), **more)


def rarp(hardware: str) -> bytes:
    return ether(RARP, struct.pack("!HHBBH6s4s6s4s", 1, IP4, 6, 4, 3, mac(hardware), b"\0" * 4, mac(hardware), b"\0" * 4))


def packed(ip: str) -> bytes:
    return ipaddress.ip_address(ip).packed


def udp(source: int = 4000, to: int = 9) -> bytes:
    return struct.pack("!HHHH", source, to, 16, 0) + b"12345678"


def ip4(source: str, payload: bytes = b"", offset: int = 0, to: str = "255.255.255.255") -> bytes:
    payload = payload or udp()
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 7, offset, 64, UDP, 0) + packed(source) + packed(to)
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


def checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    return 0xFFFF - (total + (total >> 16)) % 0x10000 if total >> 16 else 0xFFFF - total


def ip6(source: str, kind: int, payload: bytes, to: str = "ff02::1") -> bytes:
    return struct.pack("!IHBB", 6 << 28, len(payload), kind, 255) + packed(source) + packed(to) + payload


def options(following: int) -> bytes:
    """Eight bytes of padding, as an extension header."""
    return struct.pack("!BBBB4x", following, 0, 1, 4)


def fragment(following: int, offset: int, more: bool) -> bytes:
    return struct.pack("!BBHI", following, 0, offset << 3 | more, 42)


def icmp6(kind: int, about: str = "", rest: bytes = b"") -> bytes:
    return struct.pack("!BBHI", kind, 0, 0, 0) + (packed(about) if about else b"") + rest


def v6(source: str, kind: int, payload: bytes, **more) -> bytes:
    return ether(IP6, ip6(source, kind, payload), to=ALL_NODES, **more)


SOLICIT, ADVERTISE, ROUTER_SOLICIT, ROUTER, REDIRECT, MLD2 = 135, 136, 133, 134, 137, 143
ADVERT = icmp6(ROUTER, rest=b"\0" * 8)

HONEST = [
    Case("an IPv4 packet", "", ether(IP4, ip4(OWN))),
    Case("the rest of an IPv4 packet", "", ether(IP4, ip4(OWN, b"\0" * 16, 185))),
    Case("an IPv4 packet for the host", "", ether(IP4, ip4(OWN, to=HOST), to=HOST_MAC)),
    Case("an ARP request", "", arp(OWN)),
    Case("an ARP reply", "", arp(OWN, operation=2, to=HOST_MAC)),
    Case("an ARP probe", "", arp("0.0.0.0", target=OWN)),
    Case("a RARP", "", rarp(MAC)),
    Case("a DHCP client", "", ether(IP4, ip4("0.0.0.0", udp(68, 67)))),
    Case("a DHCP client's renewal", "", ether(IP4, ip4(OWN, udp(68, 67)))),
    Case("an IPv6 packet", "", v6(OWN6, UDP, udp())),
    Case("an IPv6 packet of a given network", "", v6(GIVEN6, UDP, udp())),
    Case("an IPv6 fragment", "", v6(GIVEN6, FRAGMENT, fragment(UDP, 0, True) + udp())),
    Case("the rest of an IPv6 packet", "", v6(GIVEN6, FRAGMENT, fragment(UDP, 2, False) + b"\0" * 16)),
    Case("a DHCPv6 client", "", v6(OWN6, UDP, udp(546, 547))),
    Case("a search for routers", "", v6("::", ICMP6, icmp6(ROUTER_SOLICIT))),
    Case("a look whether its address is free", "", v6("::", ICMP6, icmp6(SOLICIT, OWN6))),
    Case("a search for a neighbour", "", v6(OWN6, ICMP6, icmp6(SOLICIT, GATEWAY6))),
    Case("an advertisement of its address", "", v6(OWN6, ICMP6, icmp6(ADVERTISE, OWN6))),
    Case("an advertisement of a given address", "", v6(GIVEN6, ICMP6, icmp6(ADVERTISE, GIVEN6))),
    Case("a multicast report", "", v6("::", HOP_BY_HOP, options(ICMP6) + icmp6(MLD2, rest=b"\0" * 20))),
]
FORGED = [
    Case("another source MAC", "source_mac", ether(IP4, ip4(OWN), source=OTHER_MAC), True),
    Case("the host's source MAC", "source_mac", ether(IP4, ip4(OWN), source=HOST_MAC), True),
    Case("another IPv4 source", "ipv4_source", ether(IP4, ip4(OTHER))),
    Case("another IPv4 source, to the host", "ipv4_source", ether(IP4, ip4(OTHER, to=HOST), to=HOST_MAC)),
    Case("the host's IPv4 address", "ipv4_source", ether(IP4, ip4(HOST))),
    Case("the rest of another's IPv4 packet", "ipv4_source", ether(IP4, ip4(OTHER, b"\0" * 16, 185))),
    Case("no IPv4 source", "ipv4_source", ether(IP4, ip4("0.0.0.0"))),
    Case("an IPv4 link-local source", "ipv4_source", ether(IP4, ip4("169.254.169.254"))),
    Case("an IPv4 packet without a whole header", "malformed", ether(IP4, b""), True),
    Case("another's ARP request", "arp_sender", arp(OTHER)),
    Case("another's ARP reply", "arp_sender", arp(HOST, operation=2)),
    Case("an ARP reply for nobody", "arp_sender", arp("0.0.0.0", operation=2)),
    Case("another hardware address in ARP", "arp_sender", arp(OWN, hardware=OTHER_MAC), True),
    Case("an ARP of other hardware", "arp_sender", arp(OWN, htype=6), True),
    Case("an ARP cut short", "arp_sender", arp(OWN)[:24], True),
    Case("another's RARP", "arp_sender", rarp(OTHER_MAC), True),
    Case("a DHCP server's offer", "dhcp", ether(IP4, ip4(OWN, udp(67, 68))), True),
    Case("a DHCP server's offer from another port", "dhcp", ether(IP4, ip4(OWN, udp(4000, 68))), True),
    Case("another IPv6 source", "ipv6_source", v6(OTHER6, UDP, udp())),
    Case("another link-local source", "ipv6_source", v6(GATEWAY6, UDP, udp())),
    Case("no IPv6 source", "ipv6_source", v6("::", UDP, udp())),
    Case("the rest of another's IPv6 packet", "ipv6_source", v6(OTHER6, FRAGMENT, fragment(UDP, 2, False) + b"\0" * 16)),
    Case("an advertisement of the gateway", "neighbour", v6(OWN6, ICMP6, icmp6(ADVERTISE, GATEWAY6))),
    Case("one behind other headers", "neighbour", v6(OWN6, OPTIONS, options(ICMP6) + icmp6(ADVERTISE, GATEWAY6))),
    Case("an advertisement from another source", "ipv6_source", v6(GATEWAY6, ICMP6, icmp6(ADVERTISE, OWN6))),
    Case("a solicitation from another source", "ipv6_source", v6(GATEWAY6, ICMP6, icmp6(SOLICIT, OWN6))),
    Case("a claim of another address", "neighbour", v6("::", ICMP6, icmp6(SOLICIT, GATEWAY6))),
    Case("a router's advertisement", "router", v6(OWN6, ICMP6, ADVERT), True),
    Case("one behind a header", "router", v6(OWN6, HOP_BY_HOP, options(OPTIONS) + options(ICMP6) + ADVERT), True),
    Case("one in a fragment", "router", v6(OWN6, FRAGMENT, fragment(ICMP6, 0, True) + ADVERT), True),
    Case("one behind a fragment", "malformed", v6(OWN6, FRAGMENT, fragment(OPTIONS, 0, True) + options(ICMP6)), True),
    Case("and the rest of it", "malformed", v6(OWN6, FRAGMENT, fragment(OPTIONS, 1, False) + ADVERT), True),
    Case("a redirect", "router", v6(OWN6, ICMP6, icmp6(REDIRECT, rest=b"\0" * 32)), True),
    Case("a DHCPv6 server", "dhcp", v6(OWN6, UDP, udp(547, 546)), True),
    Case("a DHCPv6 server behind a header", "dhcp", v6(OWN6, OPTIONS, options(UDP) + udp(547, 546)), True),
    Case("a VLAN tag", "vlan_tag", ether(IP4, ip4(OWN), tags=((VLAN, 5),)), True),
    Case("a priority tag", "vlan_tag", ether(IP4, ip4(OWN), tags=((VLAN, 0xE000),)), True),
    Case("an outer tag", "vlan_tag", ether(IP4, ip4(OWN), tags=((QINQ, 5),)), True),
    Case("two tags", "vlan_tag", ether(IP4, ip4(OWN), tags=((QINQ, 5), (VLAN, 6))), True),
    Case("a protocol that nobody knows", "protocol", ether(0x88B5, b"\0" * 30)),
    Case("PPPoE", "protocol", ether(0x8864, b"\x11\0\0\1\0\x20\0\x21" + ip4(OTHER))),
    Case("IPv4 in SNAP", "protocol", ether(44, b"\xaa\xaa\3\0\0\0\x08\0" + ip4(OTHER))),
]
# These stay on the link, so no other host of the bridge may see them in any case.
LINK_CONTROL = [
    Case(name, "link_control", ether(kind, b"\0" * 40, to=f"01:80:c2:00:00:0{last}"), True)
    for name, kind, last in (("a pause frame", 0x8808, "1"), ("LACP", 0x8809, "2"), ("802.1X", 0x888E, "3"), ("LLDP", 0x88CC, "e"))
]
# In a VM that was given VLANs 5 and 7, but not 6.
TAGGED = [
    Case("in a given VLAN", "", ether(IP4, ip4(OWN), tags=((VLAN, 5),))),
    Case("ARP in a given VLAN", "", arp(OWN, tags=((VLAN, 7),))),
    Case("without a tag", "", ether(IP4, ip4(OWN))),
    Case("in another VLAN", "vlan_tag", ether(IP4, ip4(OWN), tags=((VLAN, 6),)), True),
    Case("another source in a given VLAN", "ipv4_source", ether(IP4, ip4(OTHER), tags=((VLAN, 5),))),
    Case("another's ARP in a given VLAN", "arp_sender", arp(OTHER, tags=((VLAN, 5),))),
    Case("a router in a given VLAN", "router", v6(OWN6, ICMP6, ADVERT, tags=((VLAN, 5),)), True),
    Case("two tags, the outer one given", "vlan_tag", ether(IP4, ip4(OTHER), tags=((VLAN, 5), (VLAN, 6))), True),
    Case("an outer tag of a provider", "vlan_tag", ether(IP4, ip4(OWN), tags=((QINQ, 5),)), True),
]
SERVERS = [case._replace(reason="", in_mac_mode=False) for case in FORGED if case.reason in ("dhcp", "router")]


def bpdu(source: str = MAC) -> bytes:
    """A bridge that should be the root of the spanning tree, as its priority is the best there is."""
    identity = b"\0\0" + mac(source)
    body = (
        b"\x42\x42\3"
        + struct.pack("!HBBB", 0, 0, 0, 0)
        + identity
        + b"\0" * 4
        + identity
        + struct.pack("!5H", 0x8001, 0, 20 << 8, 2 << 8, 0)
    )
    return (mac("01:80:c2:00:00:00") + mac(source) + struct.pack("!H", len(body)) + body).ljust(60, b"\0")
