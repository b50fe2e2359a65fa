# SPDX-License-Identifier: GPL-3.0-or-later
"""Output that leaves because both VMs have said it: only what the secondary's VM has said, byte for byte, and acknowledged."""

from __future__ import annotations

import random
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plover.core.agreement import AHEAD_MAX, Agreement
from plover.errors import WireError
from plover.protocol import sayings
from plover.protocol.frames import wrap
from plover.protocol.segments import FIN, RST, SEQUENCE_NUMBERS, SYN, TCP, Packet, Segment, Unknown, parse

ACK = 0x10
NEAR_WRAP = SEQUENCE_NUMBERS - 20  # sequence numbers wrap around in most tests


def tcp(start, payload=b"", acks=7, flags=ACK, port=5000, identity=0, version=4, options=b""):
    segment = struct.pack("!HHIIBBHHH", 6379, port, start % SEQUENCE_NUMBERS, acks % SEQUENCE_NUMBERS, (20 + len(options)) << 2, flags, identity, 0, 0)
    segment += options + payload
    if version == 6:
        return b"\2" * 12 + b"\x86\xdd" + struct.pack("!IHBB", 6 << 28 | identity, len(segment), TCP, 64) + b"\3" * 32 + segment
    return b"\2" * 12 + b"\x08\0" + struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(segment), identity, 0, 64, TCP, identity) + b"\3" * 8 + segment


def udp(payload, identity=0):
    return b"\2" * 12 + b"\x08\0" + struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), identity, 0, 64, 17, identity) + b"\3" * 8 + payload


class Pair:
    """A leader's agreement, and a secondary whose VM sends frames."""

    def __init__(self):
        self.agreement, self.left, self.frames = Agreement(), [], {}
        self.syncvm()

    def syncvm(self, staged=True):
        self.agreement.begin()
        self.agreement.open = staged

    def leader(self, *frames):
        """Can they be compared?"""
        out = []
        for frame in frames:
            number = len(self.frames) + 1
            self.frames[number] = frame
            out.append(self.agreement.hold(number, frame))
        self._look()
        return out

    def secondary(self, *frames):
        self.agreement.hear(sayings.unpack(sayings.said(b"".join(map(wrap, frames)))))
        self._look()

    def _look(self):
        self.left += [self.frames[number] for number in self.agreement.leaving()]


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("first", ["leader", "secondary"])
def test_a_segment_leaves_once_both_have_said_it_whatever_their_headers(first, version):
    pair = Pair()
    ours, theirs = (tcp(100, b"answer", identity=n, version=version, options=b"\1" * 4 * n) for n in (1, 2))
    for who in (first, *({"leader", "secondary"} - {first})):
        assert not pair.left
        getattr(pair, who)(ours if who == "leader" else theirs)
    assert pair.left == [ours] and not pair.agreement.differs


@settings(max_examples=200)
@given(st.data())
def test_however_the_secondary_cuts_the_stream_exactly_what_it_has_said_leaves(data):
    stream, seed = data.draw(st.binary(min_size=1, max_size=300)), data.draw(st.integers(0, 1 << 30))
    pair, rng = Pair(), random.Random(seed)

    def cut():
        at, out = 0, []
        while at < len(stream):
            size = rng.randint(1, len(stream) - at)
            out.append(tcp(NEAR_WRAP + at, stream[at : at + size]))
            at += size
        return out

    ours, theirs = cut(), cut()
    said = 0
    while ours or theirs:
        if ours and (not theirs or rng.random() < 0.5):
            assert pair.leader(ours.pop(0)) == [True]
        else:
            count = rng.randint(1, len(theirs))
            batch, theirs = theirs[:count], theirs[count:]
            said += sum(len(parse(frame).payload) for frame in batch)
            pair.secondary(*batch)
        assert sum(len(parse(frame).payload) for frame in pair.left) <= said
    assert b"".join(parse(frame).payload for frame in pair.left) == stream


def test_another_answer_is_a_difference_and_nothing_more_of_the_flow_leaves():
    pair = Pair()
    other_flow = tcp(50, b"the same", port=5001)
    pair.leader(tcp(100, b"12:00:01"), other_flow)
    pair.secondary(tcp(100, b"12:00:02"), other_flow)
    assert pair.agreement.differs and pair.left == [other_flow]
    assert pair.leader(tcp(108, b"more")) == [False]
    pair.secondary(tcp(108, b"more"))
    assert pair.left == [other_flow]
    pair.syncvm()
    assert not pair.agreement.differs
    pair.leader(tcp(112, b"again"))
    pair.secondary(tcp(112, b"again"))
    assert pair.left == [other_flow, tcp(112, b"again")]


def test_a_segment_that_acknowledges_more_than_the_secondary_waits_for_it():
    pair = Pair()
    ours = tcp(100, b"answer", acks=NEAR_WRAP + 30)
    pair.leader(ours)
    pair.secondary(tcp(100, b"answer", acks=NEAR_WRAP + 10))
    assert not pair.left
    pair.secondary(tcp(106, acks=NEAR_WRAP + 31))
    assert pair.left == [ours]


def test_an_acknowledgement_from_before_the_syncvm_is_in_the_state_that_the_secondary_loaded():
    pair = Pair()
    pair.leader(tcp(100, b"before", acks=40))
    pair.syncvm()
    again = tcp(106, acks=40)
    pair.leader(again)
    assert pair.left == [again], "the secondary need not acknowledge it once more"
    pair.leader(tcp(106, acks=41))
    assert pair.left == [again]


def test_nothing_leaves_before_the_syncvm_is_staged_or_in_another_view():
    pair = Pair()
    pair.leader(tcp(100, b"before", acks=40))
    pair.syncvm(staged=False)
    pair.leader(tcp(106, acks=40))
    assert not pair.left
    pair.agreement.void()
    pair.agreement.open = True
    pair.leader(tcp(106, acks=40))
    assert not pair.left


def test_a_fin_must_be_said_by_both():
    ends, ours = tcp(100, b"bye", flags=ACK | FIN), tcp(100, b"bye\0")
    for one, other in ((ends, ours), (ours, ends)):
        pair = Pair()
        pair.leader(one)
        pair.secondary(other)
        assert pair.agreement.differs and not pair.left
    pair = Pair()
    pair.leader(ends)
    pair.secondary(tcp(100, b"bye"))
    assert not pair.left and not pair.agreement.differs
    pair.secondary(tcp(103, flags=ACK | FIN))
    assert pair.left == [ends]


@pytest.mark.parametrize("flags", [SYN | ACK, RST, RST | ACK, ACK | 0x20, 0])
def test_the_begin_and_the_reset_of_a_connection_wait_and_all_that_follows_with_them(flags):
    pair = Pair()
    frame, data = tcp(100, flags=flags), tcp(101, b"data")
    assert pair.leader(frame, data) == [False, False]
    pair.secondary(frame, data)
    assert not pair.left


def test_what_is_sent_again_waits_for_a_syncvm():
    pair = Pair()
    pair.leader(tcp(100, b"answer"))
    pair.secondary(tcp(100, b"answer"))
    assert pair.leader(tcp(100, b"answer")) == [False] and len(pair.left) == 1


def test_other_packets_leave_as_often_as_both_have_sent_them_without_id_and_padding():
    pair = Pair()
    pair.leader(udp(b"dns", 1), udp(b"dns", 2), udp(b"dns", 3))
    pair.secondary(udp(b"dns", 9) + b"padding")
    assert pair.left == [udp(b"dns", 1)]
    pair.secondary(udp(b"dns", 8), udp(b"other"))
    assert len(pair.left) == 2
    pair.leader(udp(b"other"))
    assert pair.left[-1] == udp(b"other")


def test_memory_is_bounded_whatever_the_secondary_says():
    pair = Pair()
    for n in range(AHEAD_MAX + 10):
        pair.secondary(tcp(100 + n, b"x"))
        pair.secondary(udp(b"%d" % n))
    pair.leader(tcp(100, b"x"))
    assert not pair.left


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\0" * 13,
        tcp(1)[:30],
        tcp(1)[:40],
        udp(b"x")[:20] + b"\x20\0" + udp(b"x")[22:],
        udp(b"x")[:20] + b"\0\1" + udp(b"x")[22:],
        udp(b"x")[:14] + b"\x44" + udp(b"x")[15:],
        udp(b"x")[:-1],
        tcp(1, version=6)[:50],
        tcp(1)[:46] + b"\xf0" + tcp(1)[47:],
        tcp(1)[:46] + b"\x40" + tcp(1)[47:],
    ],
)
def test_malformed_frames_and_fragments_are_not_compared(frame):
    assert isinstance(parse(frame), Unknown)


@given(st.binary(max_size=120))
def test_any_frame_is_one_of_the_three(frame):
    assert isinstance(parse(frame), (Segment, Packet, Unknown))
    assert isinstance(parse(b"\2" * 12 + b"\x08\0" + frame), (Segment, Packet, Unknown))


@given(st.binary(max_size=200))
def test_malformed_sayings_are_refused(payload):
    try:
        assert len(sayings.unpack(payload)) == len(payload) // 32
    except WireError:
        pass
