# SPDX-License-Identifier: GPL-3.0-or-later
"""The questions for multicast groups, against the RFCs. That Linux answers them: tests/system/test_multicast_queries.py."""

from __future__ import annotations

import struct

from plover.protocol import multicast


def total(data: bytes) -> int:
    """The Internet checksum's sum: 0xffff if the checksum in ``data`` is right."""
    out = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while out >> 16:
        out = (out & 0xFFFF) + (out >> 16)
    return out


def test_the_question_for_ipv4_is_an_igmpv3_general_query():
    frame = multicast.queries()[0]
    assert len(frame) == 60 and frame[:6].hex() == "01005e000001" and frame[12:14].hex() == "0800"
    packet = frame[14 : 14 + int.from_bytes(frame[16:18], "big")]
    header, query = packet[:24], packet[24:]
    assert header[0] == 0x46 and header[8] == 1 and header[9] == 2 and header[20:].hex() == "94040000"  # TTL 1, router alert
    assert header[12:16] == bytes(4) and header[16:20] == bytes([224, 0, 0, 1])
    assert query[0] == 0x11 and len(query) == 12 and query[4:8] == bytes(4)  # 12 bytes: version 3; no group: a general query
    assert total(header) == total(query) == 0xFFFF


def test_the_question_for_ipv6_is_an_mldv2_general_query():
    frame = multicast.queries()[1]
    assert frame[:6].hex() == "333300000001" and frame[12:14].hex() == "86dd"
    head, options, query = frame[14:54], frame[54:62], frame[62:]
    assert int.from_bytes(head[4:6], "big") == len(options) + len(query) == 36 and head[6:8] == b"\0\1"  # hop limit 1
    assert options.hex() == "3a00" + "05020000" + "0100"
    assert head[8:10].hex() == "fe80" and query[0] == 130 and query[8:24] == bytes(16)
    assert total(head[8:40] + struct.pack("!II", len(query), 58) + query) == 0xFFFF


def test_the_sender_is_no_card_that_anybody_has():
    for frame in multicast.queries():
        assert frame[6] & 3 == 2  # locally administered, not multicast
