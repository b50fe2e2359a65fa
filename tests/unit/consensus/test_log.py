# SPDX-License-Identifier: GPL-3.0-or-later
"""The replicated log beside a plain model, and its entries on the wire."""

from __future__ import annotations

import struct

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from plover.consensus.log import AUDIT, INPUT, NUMBER, SYNCVM, Entry, Log, pack, unpack
from plover.errors import InvariantViolation, WireError

from tests.examples import examples

HEAD = struct.Struct("!QQBI")


class LogModel(RuleBasedStateMachine):
    """A log beside a list of all entries that are held."""

    @initialize(index=st.integers(0, 2**40), view=st.integers(0, 9))
    def start(self, index, view):
        self.log = Log(index, view)
        self.base, self.view, self.entries = index, view, []

    @rule(view=st.integers(0, 9), payload=st.binary(max_size=9), count=st.integers(1, 5))
    def append(self, view, payload, count):
        for _ in range(count):
            entry = Entry(self.base + len(self.entries) + 1, view, INPUT, payload)
            self.log.append(entry)
            self.entries.append(entry)

    @rule(ahead=st.integers(-6, 6).filter(lambda n: n != 1))
    def append_out_of_order(self, ahead):
        with pytest.raises(InvariantViolation, match="log gap"):
            self.log.append(Entry(self.base + len(self.entries) + ahead, 1, INPUT, b""))

    @rule(at=st.integers(-1, 7))
    def cut_after(self, at):
        self.log.cut_after(self.base + at)
        self.entries = self.entries[: max(0, at)]

    @rule(at=st.integers(-1, 7))
    def truncate(self, at):
        self.log.truncate(self.base + at)
        gone, self.entries = self.entries[: max(0, at)], self.entries[max(0, at) :]
        if gone:
            self.base, self.view = gone[-1].index, gone[-1].view

    @rule(index=st.integers(0, 99), view=st.integers(0, 9))
    def reset(self, index, view):
        self.log.reset(index, view)
        self.base, self.view, self.entries = index, view, []

    @invariant()
    def the_log_is_what_the_model_says(self):
        log, last = self.log, self.base + len(self.entries)
        assert (log.base_index, log.base_view, log.last_index) == (self.base, self.view, last)
        assert log.last_view == (self.entries[-1].view if self.entries else self.view)
        assert log.bytes == sum(len(e.payload) for e in self.entries)
        assert [log[e.index] for e in self.entries] == self.entries
        for skip in range(len(self.entries) + 2):
            assert log.after(self.base + skip) == self.entries[skip:]
        assert log.after(self.base - 1) == self.entries
        assert [log.view_at(i) for i in range(self.base - 1, last + 2)] == [None, self.view, *(e.view for e in self.entries), None]


TestLogModel = LogModel.TestCase
TestLogModel.settings = settings(max_examples=examples(80), stateful_step_count=25)


def test_cutting_at_either_end_keeps_the_rest_and_its_size():
    log = Log(10, 2)
    for index in range(11, 16):
        log.append(Entry(index, 3, INPUT, b"x" * index))
    log.cut_after(13)
    assert (log.base_index, log.last_index, log.bytes) == (10, 13, 11 + 12 + 13)
    log.truncate(11)
    assert (log.base_index, log.base_view, log.last_index, log.bytes) == (11, 3, 13, 12 + 13)
    log.cut_after(5)
    assert (log.base_index, log.last_index, log.last_view, log.bytes) == (11, 11, 3, 0)


@st.composite
def runs(draw):
    """Entries as one member sends them: consecutive, syncvms with their number."""
    first = draw(st.integers(1, 2**63))
    out = []
    for offset in range(draw(st.integers(0, 6))):
        kind = draw(st.sampled_from([INPUT, SYNCVM, AUDIT]))
        payload = draw(st.binary(max_size=40)) if kind == INPUT else NUMBER.pack(draw(st.integers(0, 2**64 - 1)))
        out.append(Entry(first + offset, draw(st.integers(0, 2**64 - 1)), kind, payload))
    return out


@given(runs())
def test_entries_come_back_as_they_were_sent(entries):
    assert unpack(pack(entries)) == entries


@given(runs())
@settings(max_examples=examples(20))
def test_entries_cut_at_any_length_are_refused(entries):
    whole = pack(entries)
    ends, at = {0}, 0
    for entry in entries:
        at += HEAD.size + len(entry.payload)
        ends.add(at)
    for length in range(len(whole)):
        if length in ends:
            assert unpack(whole[:length]) == entries[: sum(end <= length for end in ends) - 1]
        else:
            with pytest.raises(WireError, match="truncated log entry"):
                unpack(whole[:length])


def entry(index=1, view=1, kind=INPUT, payload=b"", length=None):
    return HEAD.pack(index, view, kind, len(payload) if length is None else length) + payload


@pytest.mark.parametrize(
    "data, words",
    [
        (b"\0" * 20, "truncated log entry head"),
        (entry(payload=b"12345", length=6), "truncated log entry 1: 6 bytes announced, 5 there"),
        (entry(length=2**32 - 1), "truncated log entry 1: 4294967295 bytes announced, 0 there"),
        (entry(kind=0), "log entry 1 of unknown kind 0"),
        (entry(kind=4), "of unknown kind 4"),
        (entry(kind=255, payload=bytes(8)), "of unknown kind 255"),
        (entry(kind=SYNCVM), "kind 2 or wrong length 0"),
        (entry(kind=SYNCVM, payload=bytes(7)), "wrong length 7"),
        (entry(kind=AUDIT, payload=bytes(9)), "wrong length 9"),
        (entry(5) + entry(5), "out of order: 5 after 5"),
        (entry(5) + entry(7), "out of order: 7 after 5"),
        (entry(5) + entry(4), "out of order: 4 after 5"),
        (entry(5) + b"x", "truncated log entry head"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_entries_that_are_not_right_are_refused(data, words):
    with pytest.raises(WireError, match=words):
        unpack(data)


@given(st.binary(max_size=200))
@example(bytes(21))
@settings(max_examples=examples(200))
def test_random_bytes_are_refused_or_are_entries(data):
    try:
        entries = unpack(data)
    except WireError as error:
        assert str(error)
    else:
        assert pack(entries) == data


@given(runs().filter(bool), st.data())
def test_a_flipped_bit_is_refused_or_still_a_run_of_entries(entries, data):
    whole = bytearray(pack(entries))
    bit = data.draw(st.integers(0, 8 * len(whole) - 1))
    whole[bit // 8] ^= 1 << bit % 8
    try:
        got = unpack(bytes(whole))
    except WireError:
        return
    assert pack(got) == whole
    assert [e.index for e in got] == list(range(got[0].index, got[0].index + len(got)))


@given(runs().filter(bool), st.data())
@settings(max_examples=examples(15))
def test_any_byte_may_be_another_or_missing(entries, data):
    """In the payload of an Append or a vote: refused, or a run of entries in order; never another error."""
    whole = pack(entries)
    for at in range(len(whole)):
        other = bytes([whole[at] ^ data.draw(st.integers(1, 255))]) if at % 8 == 0 else b"\xff"
        for spoilt in (whole[:at] + other + whole[at + 1 :], whole[:at] + whole[at + 1 :], whole[:at] + other + whole[at:]):
            try:
                got = unpack(spoilt)
            except WireError as error:
                assert str(error)
            else:
                assert pack(got) == spoilt
                assert [e.index for e in got] == [got[0].index + n for n in range(len(got))]
                assert all(e.kind == INPUT or len(e.payload) == NUMBER.size for e in got)
