# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames that two VMs with the same input must both have sent: TCP segments and other packets. Pure.

A segment is compared by its payload and its acknowledgement, not by its headers: two kernels choose other IP ids, windows, time
stamps and sizes of segments. RFC 9293 (TCP), RFC 791 (IPv4), RFC 8200 (IPv6), IEEE 802.3.
"""

from __future__ import annotations

import struct
from hashlib import blake2b
from typing import NamedTuple, Union

FIN, SYN, RST, ACK, URG = 0x01, 0x02, 0x04, 0x10, 0x20
IPV4, IPV6, TCP, UDP = 0x0800, 0x86DD, 6, 17
ETHERNET_BYTES, IPV4_BYTES, IPV6_BYTES, TCP_BYTES, PORTS_BYTES = 14, 20, 40, 20, 4
SEQUENCE_NUMBERS = 1 << 32
HASH_BYTES = 8
_IPV4 = struct.Struct("!BxHHHxB")  # version and length, total length, id, fragment, protocol
_IPV6 = struct.Struct("!B3xHB")  # version, payload length, next header
_TCP = struct.Struct("!4xIIBB")  # sequence number, acknowledgement, data offset, flags


class Segment(NamedTuple):
    """A TCP segment with an acknowledgement and without SYN, RST or urgent data. ``end``: behind its payload, and behind its FIN."""

    flow: bytes
    start: int
    end: int
    acks: int
    fin: bool
    payload: bytes


class Packet(NamedTuple):
    """Something else that both VMs send alike. ``flow``: from whom to whom. ``digest``: of all of it, without what may differ."""

    flow: bytes
    digest: int


class Unknown(NamedTuple):
    """Cannot be compared: the begin or the reset of a connection (``flow``), fragments, whatever is malformed."""

    flow: bytes = b""


Said = Union[Segment, Packet, Unknown]  # noqa: UP007 (ansible-test takes the bars for an operator)
UNKNOWN = Unknown()


def digest(data: bytes) -> int:
    return int.from_bytes(blake2b(data, digest_size=HASH_BYTES).digest(), "big")


def after(a: int, b: int) -> int:
    """How far sequence number ``a`` is after ``b``; negative: before it."""
    return (a - b + (SEQUENCE_NUMBERS >> 1)) % SEQUENCE_NUMBERS - (SEQUENCE_NUMBERS >> 1)


def parse(frame: bytes) -> Said:
    """``frame``: from the Ethernet header on."""
    if len(frame) < ETHERNET_BYTES:
        return UNKNOWN
    kind = int.from_bytes(frame[12:14], "big")
    if kind == IPV4:
        return _ipv4(frame)
    if kind == IPV6:
        return _ipv6(frame)
    return Packet(frame[:ETHERNET_BYTES], digest(frame))


def _ipv4(frame: bytes) -> Said:
    if len(frame) < ETHERNET_BYTES + IPV4_BYTES:
        return UNKNOWN
    version, total, _id, fragment, protocol = _IPV4.unpack_from(frame, ETHERNET_BYTES)
    header, end = 4 * (version & 15), ETHERNET_BYTES + total
    if version >> 4 != 4 or not IPV4_BYTES <= header <= total or end > len(frame) or fragment & 0x3FFF:
        return UNKNOWN
    if protocol == TCP:
        return _tcp(frame[26:34], frame[ETHERNET_BYTES + header : end], options=header > IPV4_BYTES)
    # Without id and checksum. What is behind ``end`` is padding.
    flow = frame[26:34] + _within(protocol, frame[ETHERNET_BYTES + header : end])
    return Packet(flow, digest(frame[:18] + frame[20:24] + frame[26:end]))


def _ipv6(frame: bytes) -> Said:
    if len(frame) < ETHERNET_BYTES + IPV6_BYTES:
        return UNKNOWN
    version, length, following = _IPV6.unpack_from(frame, ETHERNET_BYTES)
    end = ETHERNET_BYTES + IPV6_BYTES + length
    if version >> 4 != 6 or not length or end > len(frame):  # no length: a jumbogram
        return UNKNOWN
    if following == TCP:
        return _tcp(frame[22:54], frame[ETHERNET_BYTES + IPV6_BYTES : end], options=False)
    return Packet(frame[22:54] + _within(following, frame[ETHERNET_BYTES + IPV6_BYTES : end]), digest(frame[:end]))


def _within(protocol: int, payload: bytes) -> bytes:
    """Which flow, of those with the same addresses."""
    return bytes([protocol]) + (payload[:PORTS_BYTES] if protocol == UDP else b"")


def _tcp(addresses: bytes, segment: bytes, options: bool) -> Said:
    """``options``: the IP header has some. They may change the packet's way, and are not compared."""
    if len(segment) < TCP_BYTES:
        return UNKNOWN
    start, acks, offset, flags = _TCP.unpack_from(segment)
    header, flow = 4 * (offset >> 4), addresses + segment[:4]
    if options or not TCP_BYTES <= header <= len(segment) or flags & (SYN | RST | URG) or not flags & ACK:
        return Unknown(flow)
    payload, fin = segment[header:], bool(flags & FIN)
    return Segment(flow, start, (start + len(payload) + fin) % SEQUENCE_NUMBERS, acks, fin, payload)
