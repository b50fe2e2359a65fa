# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames of a VM: TCP, UDP and others, whose content a test chooses."""

from __future__ import annotations

import struct

from plover.protocol.segments import SEQUENCE_NUMBERS, TCP

ACK = 0x10
NEAR_WRAP = SEQUENCE_NUMBERS - 20  # sequence numbers wrap around in most tests


def tcp(start, payload=b"", acks=7, flags=ACK, port=5000, identity=0, version=4, options=b""):
    numbers = start % SEQUENCE_NUMBERS, acks % SEQUENCE_NUMBERS
    segment = struct.pack("!HHIIBBHHH", 6379, port, *numbers, (20 + len(options)) << 2, flags, identity, 0, 0) + options + payload
    if version == 6:
        return b"\2" * 12 + b"\x86\xdd" + struct.pack("!IHBB", 6 << 28 | identity, len(segment), TCP, 64) + b"\3" * 32 + segment
    return ipv4(TCP, segment, identity)


def ipv4(protocol, payload, identity=0, options=b""):
    head = struct.pack("!BBHHHBBH", 0x45 + len(options) // 4, 0, 20 + len(options) + len(payload), identity, 0, 64, protocol, identity)
    return b"\2" * 12 + b"\x08\0" + head + b"\3" * 8 + options + payload


def udp(payload, identity=0, port=5000):
    return ipv4(17, struct.pack("!HHHH", 53, port, 8 + len(payload), 0) + payload, identity)


def other(payload):
    return b"\2" * 12 + b"\x88\xb5" + payload


def v6(payload, following=17):
    return b"\2" * 12 + b"\x86\xdd" + struct.pack("!IHBB", 6 << 28, len(payload), following, 64) + b"\3" * 32 + payload
