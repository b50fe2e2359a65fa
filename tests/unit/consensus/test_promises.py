# SPDX-License-Identifier: GPL-3.0-or-later
"""View, vote and record only grow; every change is an order to store it; what is refused changes nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plover.config.timing import Timing
from plover.consensus.consensus import Consensus
from plover.consensus.durable import Durable, Record
from plover.consensus.effects import CANDIDATE, LEADER
from plover.consensus.log import INPUT
from plover.consensus.promises import Promises
from plover.errors import InvariantViolation, WireError
from plover.protocol import wire

KINDS = {"primary": "replica", "secondary": "replica", "witness": "witness"}
BOTH = frozenset({"primary", "secondary"})
BEGIN = Durable(3, "primary", Record(2, 4, BOTH))


def promises() -> tuple[Promises, list[Durable]]:
    stored: list[Durable] = []
    return Promises(BEGIN, stored.append), stored


@pytest.mark.parametrize(
    "change, why",
    [
        (lambda p: p.enter(2), "view went from 3 to 2"),
        (lambda p: p.enter(3, "secondary"), "two votes in view 3: primary and secondary"),
        (lambda p: p.enter(3), "two votes in view 3: primary and None"),
        (lambda p: p.enter(4, None, Record(2, 3, BOTH)), "in-sync record went from"),
        (lambda p: p.store(Record(1, 9, BOTH)), "in-sync record went from"),
        (lambda p: p.store(Record(4, 1, BOTH)), "of a later view than 3"),
    ],
)
def test_nothing_is_taken_back(change, why):
    kept, stored = promises()
    with pytest.raises(InvariantViolation, match=why):
        change(kept)
    assert (kept.view, kept.voted_for, kept.record) == BEGIN and not stored


def test_the_same_vote_may_be_given_again_and_a_new_view_has_none():
    kept, stored = promises()
    kept.enter(3, "primary")
    kept.enter(4)
    assert stored == [BEGIN, Durable(4, None, BEGIN.record)]


@given(st.lists(st.tuples(st.integers(0, 6), st.sampled_from([None, "primary", "secondary"]), st.integers(0, 6), st.integers(0, 3))))
def test_whatever_is_asked_what_is_stored_only_grows(changes):
    kept, stored = promises()
    for view, vote, record_view, version in changes:
        try:
            kept.enter(view, vote, Record(record_view, version, BOTH))
        except InvariantViolation:
            continue
    for old, new in zip([BEGIN, *stored], stored):
        assert old.view <= new.view and old.record.order <= new.record.order
        assert old.view < new.view or old.voted_for == new.voted_for


# --- as the whole member checks it ---


def member(name: str = "primary") -> Consensus:
    out = Consensus(name, KINDS, Durable(1, None, Record(1, 1, BOTH)), Timing(0.1, 0.02), 0.0)
    out.eligible = True
    return out


def leader() -> Consensus:
    out = member()
    out.force_lead(0.0)
    out.take()
    return out


def broken_role(role: str, name: str = "primary"):
    def breaks(out: Consensus) -> None:
        out.role = role

    return member(name), breaks


@pytest.mark.parametrize(
    "one, breaks, why",
    [
        (*broken_role(LEADER), "its? vote is None's"),
        (*broken_role(CANDIDATE), "its? vote is None's"),
        (*broken_role(CANDIDATE, "witness"), "witness is candidate"),
        (leader(), lambda one: setattr(one, "leader", "secondary"), "which secondary leads"),
        (leader(), lambda one: setattr(one, "commit_index", 1), "committed up to 1, but the log goes from 0 to 0"),
        (leader(), lambda one: one.log.reset(7, 1), "committed up to 0, but the log goes from 7 to 7"),
    ],
)
def test_nothing_leaves_a_member_whose_state_contradicts_itself(one, breaks, why):
    one.check_invariants()
    one.send("witness", wire.AppendAck(1, 0, True))
    breaks(one)
    with pytest.raises(InvariantViolation, match=why):
        one.take()


def test_a_leader_that_commits_and_truncates_breaks_no_invariant():
    one = leader()
    for _ in range(3):
        one.truncate_to(one.propose(INPUT, b"frame") - 1)
        one.take()
    assert (one.log.base_index, one.commit_index, one.log.last_index) == (2, 3, 3)


@pytest.mark.parametrize(
    "message",
    [wire.Heartbeat(2, 1, 0, 3, 1, 3), wire.ProposeRecord(2, 3, 1, 3), wire.VoteRequest(2, False, True, 3, 1, 3, 0, 0)],
    ids=lambda m: type(m).__name__,
)
def test_a_record_of_a_view_that_has_not_begun_is_refused_and_not_stored(message):
    """Else the next leader could only propose an older one."""
    one = member("witness")
    with pytest.raises(WireError, match="record of view 3, told in view 2"):
        one.receive(9.0, "primary", message)
    assert one.record == Record(1, 1, BOTH)
