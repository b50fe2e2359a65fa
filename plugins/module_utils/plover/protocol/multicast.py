# SPDX-License-Identifier: GPL-3.0-or-later
"""Questions to a guest: which multicast groups is it in? Its answers tell switches and routers near its new host. Pure.

A switch that snoops learns of a group's receivers from their reports. Without a question, a guest that moved reports its groups
only when the network's own querier asks next, which takes up to two minutes. The guest alone gets these questions, as input like
any other; they do not go onto the network. IGMPv3 (RFC 3376 §4.1) and MLDv2 (RFC 3810 §5.1) general queries: guests that know
only an older version answer them as well, and the others are not made to fall back to one.
"""

from __future__ import annotations

import struct

_MAC = bytes.fromhex("02706c6f7665")  # locally administered
_ALL_HOSTS, _MAC_OF_ALL_HOSTS = bytes([224, 0, 0, 1]), bytes.fromhex("01005e000001")
_ALL_NODES, _MAC_OF_ALL_NODES = bytes.fromhex("ff02" + "00" * 13 + "01"), bytes.fromhex("333300000001")
_LINK_LOCAL = bytes.fromhex("fe80000000000000" + "00706cfffe6f7665")  # of _MAC; a guest ignores a question from any other kind
_IGMP, _ICMPV6, _HOP_BY_HOP = 2, 58, 0
_ROUTER_ALERT_V4, _ROUTER_ALERT_V6 = bytes([0x94, 4, 0, 0]), bytes([5, 2, 0, 0, 1, 0])  # and a PadN
_ANSWER_WITHIN_MS = 500
_ROBUSTNESS, _INTERVAL_S = 2, 125  # as a querier by default; guests adopt them


def queries() -> list[bytes]:
    """Two Ethernet frames: for IPv4 and for IPv6."""
    return [_igmp(), _mld()]


def _igmp() -> bytes:
    query = _summed(struct.pack("!BBH4sBBH", 0x11, _ANSWER_WITHIN_MS // 100, 0, b"\0" * 4, _ROBUSTNESS, _INTERVAL_S, 0), 2)
    length = 20 + len(_ROUTER_ALERT_V4) + len(query)
    # From 0.0.0.0, as a switch without an address of its own asks (RFC 4541 §2.1.1).
    head = struct.pack("!BBHHHBBH4s4s", 0x46, 0xC0, length, 0, 0, 1, _IGMP, 0, b"\0" * 4, _ALL_HOSTS) + _ROUTER_ALERT_V4
    return _ethernet(_MAC_OF_ALL_HOSTS, 0x0800, _summed(head, 10) + query)


def _mld() -> bytes:
    query = struct.pack("!BBHHH16sBBH", 130, 0, 0, _ANSWER_WITHIN_MS, 0, b"\0" * 16, _ROBUSTNESS, _INTERVAL_S, 0)
    pseudo = _LINK_LOCAL + _ALL_NODES + struct.pack("!II", len(query), _ICMPV6)
    query = _summed(query, 2, pseudo)
    options = bytes([_ICMPV6, 0]) + _ROUTER_ALERT_V6
    head = struct.pack("!IHBB", 6 << 28, len(options) + len(query), _HOP_BY_HOP, 1) + _LINK_LOCAL + _ALL_NODES
    return _ethernet(_MAC_OF_ALL_NODES, 0x86DD, head + options + query)


def _ethernet(to: bytes, kind: int, packet: bytes) -> bytes:
    return (to + _MAC + struct.pack("!H", kind) + packet).ljust(60, b"\0")


def _summed(data: bytes, at: int, pseudo: bytes = b"") -> bytes:
    """``data`` with its Internet checksum (RFC 1071) at byte ``at``, which holds 0 so far. All lengths are even."""
    whole = pseudo + data
    total = sum(struct.unpack(f"!{len(whole) // 2}H", whole))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return data[:at] + struct.pack("!H", total ^ 0xFFFF) + data[at + 2 :]
