# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames that an attacker sends: Ethernet, ARP, IP, ND, DHCP, spanning tree, VLAN tags. Pure.

Each may end with a mark, so that it is known again wherever it turns up.
"""

from __future__ import annotations

import ipaddress
import struct

BROADCAST, ALL_NODES, BRIDGES = "ff:ff:ff:ff:ff:ff", "33:33:00:00:00:01", "01:80:c2:00:00:00"
IPV4, ARP, VLAN, IPV6 = 0x0800, 0x0806, 0x8100, 0x86DD
FRAME_BYTES_MIN = 60
ARP_REQUEST, ARP_REPLY = 1, 2
TCP, UDP, ICMPV6 = 6, 17, 58


def mac_bytes(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def mac_text(octets: bytes) -> str:
    return ":".join(f"{octet:02x}" for octet in octets)


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    data += bytes(len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ethernet(src: str, dst: str, kind: int, payload: bytes) -> bytes:
    """``kind``: type, or the length of an LLC frame."""
    return (mac_bytes(dst) + mac_bytes(src) + struct.pack("!H", kind) + payload).ljust(FRAME_BYTES_MIN, b"\0")


def arp(src: str, dst: str, operation: int, sender: tuple[str, str], target: tuple[str, str], mark: bytes = b"") -> bytes:
    """``sender``, ``target``: (MAC, address)."""
    ends = b"".join(mac_bytes(mac) + ipaddress.IPv4Address(address).packed for mac, address in (sender, target))
    return ethernet(src, dst, ARP, struct.pack("!HHBBH", 1, IPV4, 6, 4, operation) + ends + mark)


def ipv4(src: str, dst: str, protocol: int, payload: bytes) -> bytes:
    ends = ipaddress.IPv4Address(src).packed + ipaddress.IPv4Address(dst).packed
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 1, 0, 64, protocol, 0) + ends
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


def udp(sport: int, dport: int, payload: bytes) -> bytes:
    """Without a checksum, which UDP over IPv4 allows."""
    return struct.pack("!HHHH", sport, dport, 8 + len(payload), 0) + payload


def datagram(src_mac: str, dst_mac: str, src: str, dst: str, ports: tuple[int, int], payload: bytes) -> bytes:
    return ethernet(src_mac, dst_mac, IPV4, ipv4(src, dst, UDP, udp(*ports, payload)))


def dhcp_offer(mac: str, server: str, mark: bytes) -> bytes:
    """To everybody: your address is 192.0.2.7, your router is ``server``."""
    addresses = bytes(4) + ipaddress.IPv4Address("192.0.2.7").packed + ipaddress.IPv4Address(server).packed + bytes(4)
    options = b"\x63\x82\x53\x63\x35\x01\x02\x36\x04" + ipaddress.IPv4Address(server).packed + b"\xff"
    body = struct.pack("!BBBBIHH", 2, 1, 6, 0, 0x1234, 0, 0) + addresses + bytes(16 + 64 + 128) + options + mark
    return datagram(mac, BROADCAST, server, "255.255.255.255", (67, 68), body)


def router_advertisement(mac: str, src: str, mark: bytes) -> bytes:
    """To all nodes: I am your router. ``src``: a link-local address."""
    body = struct.pack("!BBHIII", 134, 0, 0, 0x40000708, 0, 0) + b"\x01\x01" + mac_bytes(mac)
    body += b"\xfd" + bytes([(2 + len(mark) + 7) // 8]) + mark.ljust((2 + len(mark) + 7) // 8 * 8 - 2, b"\0")  # an experimental option
    return _icmpv6(mac, ALL_NODES, src, "ff02::1", body)


def neighbour_advertisement(mac: str, address: str, mark: bytes) -> bytes:
    """To all nodes: ``address`` is at ``mac``."""
    body = struct.pack("!BBHI", 136, 0, 0, 0x20000000) + ipaddress.IPv6Address(address).packed + b"\x02\x01" + mac_bytes(mac)
    body += b"\xfd" + bytes([(2 + len(mark) + 7) // 8]) + mark.ljust((2 + len(mark) + 7) // 8 * 8 - 2, b"\0")
    return _icmpv6(mac, ALL_NODES, address, "ff02::1", body)


def _icmpv6(src_mac: str, dst_mac: str, src: str, dst: str, body: bytes) -> bytes:
    ends = ipaddress.IPv6Address(src).packed + ipaddress.IPv6Address(dst).packed
    total = checksum(ends + struct.pack("!II", len(body), ICMPV6) + body)
    body = body[:2] + struct.pack("!H", total) + body[4:]
    return ethernet(src_mac, dst_mac, IPV6, struct.pack("!IHBB", 6 << 28, len(body), ICMPV6, 255) + ends + body)


def spanning_tree(mac: str, mark: bytes) -> bytes:
    """I am the root of all bridges."""
    root = bytes(2) + mac_bytes(mac)
    body = b"\x42\x42\x03" + bytes(4) + b"\0" + root + bytes(4) + root + struct.pack("!HHHHH", 0x8001, 0, 20 << 8, 2 << 8, 15 << 8) + mark
    return ethernet(mac, BRIDGES, len(body), body)


def tagged(frame: bytes, vlan: int) -> bytes:
    return frame[:12] + struct.pack("!HH", VLAN, vlan) + frame[12:]


# ---- TCP segments on the way ------------------------------------------------------------------------------------
class Segment:
    """A TCP segment in an Ethernet frame, as an on-path host sees it. Raises ValueError if it is none."""

    def __init__(self, frame: bytes) -> None:
        if len(frame) < 54 or frame[12:14] != b"\x08\x00" or frame[23] != TCP:
            raise ValueError("no TCP over IPv4")
        self.ip = frame[14 : 14 + (frame[14] & 15) * 4]
        rest = frame[14 + len(self.ip) : 14 + struct.unpack_from("!H", frame, 16)[0]]
        if len(rest) < 20:
            raise ValueError("a truncated segment")
        self.head, self.payload = rest[: (rest[12] >> 4) * 4], rest[(rest[12] >> 4) * 4 :]
        self.src, self.dst = (str(ipaddress.IPv4Address(self.ip[at : at + 4])) for at in (12, 16))
        self.sport, self.dport, self.seq, self.ack = struct.unpack_from("!HHII", self.head)
        self.flags = self.head[13]

    @property
    def flow(self) -> tuple[str, int, str, int]:
        return self.src, self.sport, self.dst, self.dport

    @property
    def next_seq(self) -> int:
        return (self.seq + len(self.payload) + bool(self.flags & 0x03)) & 0xFFFFFFFF

    def following(self, payload: bytes, flags: int = 0x18) -> bytes:
        """An IP packet that continues this segment's stream: its options, the next sequence number, ``payload``."""
        head = bytearray(self.head)
        struct.pack_into("!I", head, 4, self.next_seq)
        head[13] = flags
        head[16:18] = bytes(2)
        ends = self.ip[12:20]
        total = checksum(ends + struct.pack("!HH", TCP, len(head) + len(payload)) + bytes(head) + payload)
        struct.pack_into("!H", head, 16, total)
        return ipv4(self.src, self.dst, TCP, bytes(head) + payload)
