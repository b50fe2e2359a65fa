# SPDX-License-Identifier: GPL-3.0-or-later
"""Output that leaves because both VMs have said it: only what the secondary's VM has said, byte for byte, and acknowledged."""

from __future__ import annotations

import random
from array import array

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plover.core import agreement
from plover.core.agreement import AGAIN, BYTES, CONNECTION, END, FOLLOWS, PLACE
from plover.core.comparison import Reference
from plover.errors import WireError
from plover.protocol import sayings
from plover.protocol.frames import wrap
from plover.protocol.segments import FIN, RST, SYN, TCP, Packet, Segment, Unknown, parse
from said_frames import ACK, NEAR_WRAP, ipv4, other, tcp, udp, v6

from tests.sim.comparisons import native


@pytest.fixture(scope="module", params=["python", "native"])
def comparison(request):
    """Both must behave in the same way."""
    return Reference() if request.param == "python" else native()


class Pair:
    """A leader's agreement, and a secondary whose VM sends frames."""

    def __init__(self, comparison):
        self.comparison, self.agreement, self.left, self.frames = comparison, comparison.agreement(), [], {}
        self.syncvm()

    def syncvm(self, staged=True):
        self.agreement.begin()
        if staged:
            self.agreement.open()

    def leader(self, *frames):
        """Why must each wait?"""
        out = []
        for frame in frames:
            number = len(self.frames) + 1
            self.frames[number] = frame
            out += self.agreement.hold_run(array("Q", [number]), wrap(frame)) or [""]
        self._look()
        return out

    def lost(self, frame):
        assert self.agreement.hold_run(array("Q", [0]), wrap(frame)) == []

    def secondary(self, *frames):
        for told in self.comparison.said(b"".join(map(wrap, frames))):
            self.agreement.hear_packed(told)
        self._look()

    def _look(self):
        self.left += [self.frames[number] for number in self.agreement.leaving()]


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("first", ["leader", "secondary"])
def test_a_segment_leaves_once_both_have_said_it_whatever_their_headers(comparison, first, version):
    pair = Pair(comparison)
    ours, theirs = (tcp(100, b"answer", identity=n, version=version, options=b"\1" * 4 * n) for n in (1, 2))
    for who in (first, *({"leader", "secondary"} - {first})):
        assert not pair.left
        getattr(pair, who)(ours if who == "leader" else theirs)
    assert pair.left == [ours] and not pair.agreement.differences


@settings(max_examples=200)
@given(st.data())
def test_however_the_secondary_cuts_the_stream_exactly_what_it_has_said_leaves(comparison, data):
    stream, seed = data.draw(st.binary(min_size=1, max_size=300)), data.draw(st.integers(0, 1 << 30))
    pair, rng = Pair(comparison), random.Random(seed)

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
            assert pair.leader(ours.pop(0)) == [""]
        else:
            count = rng.randint(1, len(theirs))
            batch, theirs = theirs[:count], theirs[count:]
            said += sum(len(parse(frame).payload) for frame in batch)
            pair.secondary(*batch)
        assert sum(len(parse(frame).payload) for frame in pair.left) <= said
    assert b"".join(parse(frame).payload for frame in pair.left) == stream


def test_another_answer_is_a_difference_and_nothing_more_of_the_flow_leaves(comparison):
    pair = Pair(comparison)
    other_flow = tcp(50, b"the same", port=5001)
    pair.leader(tcp(100, b"12:00:01"), other_flow)
    pair.secondary(tcp(100, b"12:00:02"), other_flow)
    assert pair.agreement.differences == {BYTES: 1} and pair.left == [other_flow]
    assert pair.leader(tcp(108, b"more")) == [FOLLOWS]
    pair.secondary(tcp(108, b"more"))
    assert pair.left == [other_flow]
    pair.syncvm()
    assert not pair.agreement.differences
    pair.leader(tcp(112, b"again"))
    pair.secondary(tcp(112, b"again"))
    assert pair.left == [other_flow, tcp(112, b"again")]


def test_a_segment_that_acknowledges_more_than_the_secondary_waits_for_it(comparison):
    pair = Pair(comparison)
    ours = tcp(100, b"answer", acks=NEAR_WRAP + 30)
    pair.leader(ours)
    pair.secondary(tcp(100, b"answer", acks=NEAR_WRAP + 10))
    assert not pair.left
    pair.secondary(tcp(106, acks=NEAR_WRAP + 31))
    assert pair.left == [ours]


def test_an_acknowledgement_from_before_the_syncvm_is_in_the_state_that_the_secondary_loaded(comparison):
    pair = Pair(comparison)
    pair.leader(tcp(100, b"before", acks=40))
    pair.syncvm()
    again = tcp(106, acks=40)
    pair.leader(again)
    assert pair.left == [again], "the secondary need not acknowledge it once more"
    pair.leader(tcp(106, acks=41))
    assert pair.left == [again]


def test_nothing_leaves_before_the_syncvm_is_staged_or_in_another_view(comparison):
    pair = Pair(comparison)
    pair.leader(tcp(100, b"before", acks=40))
    pair.syncvm(staged=False)
    pair.leader(tcp(106, acks=40))
    assert not pair.left
    pair.agreement.void()
    pair.agreement.open()
    pair.leader(tcp(106, acks=40))
    assert not pair.left


def test_a_fin_must_be_said_by_both(comparison):
    ends, ours = tcp(100, b"bye", flags=ACK | FIN), tcp(100, b"bye\0")
    for first, second in ((ends, ours), (ours, ends)):
        pair = Pair(comparison)
        pair.leader(first)
        pair.secondary(second)
        assert pair.agreement.differences == {END: 1} and not pair.left
    pair = Pair(comparison)
    pair.leader(ends)
    pair.secondary(tcp(100, b"bye"))
    assert not pair.left and not pair.agreement.differences
    pair.secondary(tcp(103, flags=ACK | FIN))
    assert pair.left == [ends]


@pytest.mark.parametrize("flags", [SYN | ACK, RST, RST | ACK, ACK | 0x20, 0])
def test_the_begin_and_the_reset_of_a_connection_wait_and_all_that_follows_with_them(comparison, flags):
    pair = Pair(comparison)
    frame, data = tcp(100, flags=flags), tcp(101, b"data")
    assert pair.leader(frame, data) == [CONNECTION, FOLLOWS]
    pair.secondary(frame, data)
    assert not pair.left


def test_what_is_sent_again_waits_for_a_syncvm(comparison):
    pair = Pair(comparison)
    pair.leader(tcp(100, b"answer"))
    pair.secondary(tcp(100, b"answer"))
    assert pair.leader(tcp(100, b"answer")) == [AGAIN] and len(pair.left) == 1


def test_a_stream_that_goes_on_at_another_number_is_a_difference(comparison):
    pair = Pair(comparison)
    pair.leader(tcp(100, b"answer"))
    pair.secondary(tcp(103, b"answer"))
    assert pair.agreement.differences == {PLACE: 1} and not pair.left


@pytest.mark.parametrize("who", ["leader", "secondary", "lost"])
def test_what_was_acknowledged_on_an_old_connection_says_nothing_about_a_new_one_of_the_same_ports(comparison, who):
    pair = Pair(comparison)
    pair.leader(tcp(100, b"old", acks=1000))
    pair.syncvm()
    begin = tcp(500, acks=40, flags=SYN | ACK)
    getattr(pair, who)(begin)
    pair.syncvm()
    pair.leader(tcp(501, acks=40))
    assert not pair.left
    pair.secondary(tcp(501, acks=40))
    assert pair.left == [tcp(501, acks=40)]


def test_a_reset_by_the_secondarys_vm_alone_stops_the_flow(comparison):
    pair = Pair(comparison)
    pair.secondary(tcp(100, flags=RST | ACK))
    assert pair.leader(tcp(100, b"answer")) == [FOLLOWS]
    pair.secondary(tcp(100, b"answer"))
    assert not pair.left


def test_other_packets_leave_as_often_as_both_have_sent_them_without_id_and_padding(comparison):
    pair = Pair(comparison)
    pair.leader(udp(b"dns", 1), udp(b"dns", 2), udp(b"dns", 3))
    pair.secondary(udp(b"dns", 9) + b"padding")
    assert pair.left == [udp(b"dns", 1)]
    pair.secondary(udp(b"dns", 8), udp(b"dns", 7), udp(b"other"))
    assert len(pair.left) == 3
    pair.leader(udp(b"other"))
    assert pair.left[-1] == udp(b"other")


@pytest.mark.parametrize(
    "packet", [udp, other, lambda x: v6(b"portsumm" + x), lambda x: ipv4(1, x)], ids=["udp", "not IP", "udp of IPv6", "icmp"]
)
def test_no_packet_overtakes_another_of_its_flow(comparison, packet):
    """The counter of a VM: one of the two answers twice where the other one answers once."""
    pair = Pair(comparison)
    pair.leader(packet(b"1"), packet(b"2"), packet(b"3"))
    pair.secondary(packet(b"1"), packet(b"3"))
    assert pair.left == [packet(b"1")] and pair.agreement.differences == {BYTES: 1}
    assert pair.leader(packet(b"4")) == [FOLLOWS]
    pair.secondary(packet(b"2"), packet(b"3"), packet(b"4"))
    assert pair.left == [packet(b"1")]
    pair.syncvm()
    pair.leader(packet(b"5"))
    pair.secondary(packet(b"5"))
    assert pair.left[-1] == packet(b"5")


def test_a_difference_keeps_packets_of_other_flows_not(comparison):
    pair = Pair(comparison)
    pair.leader(udp(b"1"), udp(b"1", port=5001))
    pair.secondary(udp(b"2"), udp(b"1", port=5001))
    assert pair.left == [udp(b"1", port=5001)]


def test_a_packet_that_nobody_keeps_is_overtaken_by_none(comparison):
    pair = Pair(comparison)
    pair.lost(udp(b"1"))
    assert pair.leader(udp(b"2")) == [FOLLOWS]
    pair.secondary(udp(b"1"), udp(b"2"))
    assert not pair.left


@pytest.mark.parametrize("kind", [lambda n: tcp(100, b"x", port=n), lambda n: udp(b"x", port=n)], ids=["tcp", "udp"])
@pytest.mark.parametrize("flows_max", [1, 3])
def test_flows_beyond_the_limit_wait_for_syncvms(comparison, flows_max, kind, monkeypatch):
    monkeypatch.setattr(agreement, "FLOWS_MAX", flows_max)
    pair = Pair(comparison)
    frames = [kind(100 + n) for n in range(5)]
    pair.leader(*frames)
    pair.secondary(*frames)
    assert pair.left == frames[:flows_max]


def test_memory_is_bounded_whatever_the_secondary_says(comparison, monkeypatch):
    monkeypatch.setattr(agreement, "AHEAD_MAX", 50)
    pair = Pair(comparison)
    for n in range(60):
        pair.secondary(tcp(100 + n, b"x"))
        pair.secondary(udp(b"%d" % n))
    pair.leader(tcp(100, b"x"), udp(b"0"))
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
        tcp(1, version=6)[:18] + b"\0\0" + tcp(1, version=6)[20:],
        ipv4(TCP, tcp(1)[34:], options=b"\1" * 4),
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
        assert [sayings.pack(saying) for saying in sayings.unpack(payload)] == [payload[at : at + 32] for at in range(0, len(payload), 32)]
    except WireError:
        pass


@pytest.mark.parametrize(
    "item",
    [
        (2, 0, 0, 0, 1, 1),
        (sayings.OTHER, 1, 0, 0, 0, 1),
        (sayings.BEGINS, 0, 0, 5, 1, 0),
        (sayings.BEGINS, 0, 0, 0, 1, 1),
        (sayings.SPAN, 5, 4, 0, 1, 1),
        (sayings.SPAN, 0, (1 << 20) + 2, 0, 1, 1),
        (sayings.ENDS, 5, 5, 0, 1, 1),
    ],
)
def test_a_saying_that_no_vm_has_said_is_refused(item):
    with pytest.raises(WireError):
        sayings.unpack(sayings.pack(sayings.Saying(*item)))


def test_sayings_come_in_messages_of_bounded_size(monkeypatch):
    monkeypatch.setattr(sayings, "SAYINGS_MAX", 3)
    told = sayings.said(b"".join(wrap(udp(b"%d" % n)) for n in range(7)))
    assert [len(sayings.unpack(payload)) for payload in told] == [3, 3, 1]
    with pytest.raises(WireError, match="no more than 3"):
        sayings.unpack(b"".join(told))
