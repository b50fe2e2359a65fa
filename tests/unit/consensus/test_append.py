# SPDX-License-Identifier: GPL-3.0-or-later
"""What a leader appends, as a follower gets it: late, twice, out of order, in parts. What was acknowledged stays."""

from __future__ import annotations

from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plover.config.timing import Timing
from plover.consensus import log as module
from plover.consensus.consensus import Consensus
from plover.consensus.durable import Durable, Record
from plover.consensus.log import INPUT, Entry, pack
from plover.errors import WireError
from plover.protocol import wire

from tests.examples import examples

KINDS = {"primary": "replica", "secondary": "replica", "witness": "witness"}
VIEW, PART_BYTES = 3, 20


def follower(views: list[int]) -> Consensus:
    """The witness; its log has entries of these views."""
    state = Durable(VIEW, None, Record(1, 1, frozenset({"primary", "secondary"})))
    out = Consensus("witness", KINDS, state, Timing(0.1, 0.02), 0.0)
    for n, view in enumerate(views, 1):
        out.log.append(Entry(n, view, INPUT, b"0123456789"))
    return out


def append(log: list[int], prev: int, last: int, reset: bool = False) -> wire.Append:
    """Entries after ``prev`` up to ``last`` of a leader whose log has these views."""
    entries = [Entry(n, log[n - 1], INPUT, b"0123456789") for n in range(prev + 1, last + 1)]
    return wire.Append(VIEW, prev, log[prev - 1] if prev else 0, reset, pack(entries))


def heartbeat(truncate: int) -> wire.Heartbeat:
    return wire.Heartbeat(VIEW, 1, truncate, 1, 1, 3)


def told(member: Consensus, message: wire.Message) -> wire.AppendAck:
    member.take()
    member.receive(0.0, "primary", message)
    (ack,) = [out.message for out in member.take() if isinstance(getattr(out, "message", None), wire.AppendAck)]
    return ack


def views(member: Consensus) -> list[int]:
    return [member.log[n].view for n in range(member.log.base_index + 1, member.log.last_index + 1)]


def test_a_late_reset_takes_nothing_away():
    """The simulator's seed 8904: the leader and this member were the quorum for the last two entries."""
    log = [1, 1, 3, 3, 3]
    member = follower([])
    assert told(member, append(log, 0, 3, reset=True)) == wire.AppendAck(VIEW, 3, True)
    assert told(member, append(log, 3, 5)) == wire.AppendAck(VIEW, 5, True)
    member.receive(0.0, "primary", heartbeat(2))
    assert told(member, append(log, 1, 3, reset=True)) == wire.AppendAck(VIEW, 5, True)
    assert (views(member), member.log.base_index, member.commit_index) == ([3, 3, 3], 2, 5)


def test_a_late_append_of_older_entries_takes_nothing_away():
    log = [1, 1, 2, 2, 3]
    member = follower(log[:4])
    assert told(member, append(log, 4, 5)).last_index == 5
    assert told(member, append(log, 0, 1)) == wire.AppendAck(VIEW, 5, True)
    assert views(member) == log and member.commit_index == 5


def test_the_tail_of_an_older_leader_goes_and_is_not_fed():
    log = [1, 1, 3]
    member = follower([1, 1, 2, 2])
    member.receive(0.0, "primary", heartbeat(4))
    assert views(member) == [1, 1, 2, 2]  # none of it is known to be this leader's
    assert told(member, append(log, 2, 2)) == wire.AppendAck(VIEW, 2, True)
    assert views(member) == [1, 1] and member.commit_index == 2
    assert told(member, append(log, 2, 3)).last_index == 3 and views(member) == log


def test_a_leader_that_contradicts_itself_is_refused():
    member = follower([])
    told(member, append([3, 3], 0, 2))
    with pytest.raises(WireError, match="entry 2 of view 2: the same leader sent it before with view 3"):
        member.receive(0.0, "primary", append([2, 2], 1, 2))


@pytest.mark.parametrize("log", [[3, 1], [VIEW + 1], [1, 2**64 - 1]])
def test_views_in_a_log_neither_go_back_nor_beyond_the_leaders(log):
    """Otherwise one lie about them would travel on in the log, and no member could follow its leader any more."""
    member = follower([])
    with pytest.raises(WireError, match="log entries of view"):
        member.receive(0.0, "primary", append(log, 0, len(log)))
    assert views(member) == []


@st.composite
def histories(draw):
    """A leader's log, what a follower holds of it and of an older leader's, and what the leader sends it, out of order."""
    shared = sorted(draw(st.lists(st.integers(1, 2), max_size=8)))
    log = shared + [3] * draw(st.integers(0, 6))
    held = draw(st.integers(0, len(shared)))
    tail = [2] * draw(st.integers(0, 3)) if held == len(shared) else []
    sent = []
    for _ in range(draw(st.integers(1, 12))):
        known = draw(st.integers(len(shared), len(log)))  # entries it had when it sent this
        prev = draw(st.integers(0, known))
        sent.append(append(log, prev, min(known, prev + PART_BYTES // 10), draw(st.booleans())))
    return log, held, shared[:held] + tail, sent


@given(histories())
@settings(max_examples=examples(400))
def test_what_is_the_leaders_stays_whatever_comes_when(history):
    log, held, begins, sent = history
    with mock.patch.object(module, "APPEND_BYTES_MAX", PART_BYTES):
        member, acked = follower(begins), 0
        for message in sent:
            ack = told(member, message)
            base = member.log.base_index
            if ack.ok:
                assert acked <= ack.last_index <= member.log.last_index
                acked = ack.last_index
                assert member.commit_index == acked and views(member)[: acked - base] == log[base:acked]
            assert base > held or views(member)[: held - base] == log[base:held], "what was held of the leader's log is gone"
