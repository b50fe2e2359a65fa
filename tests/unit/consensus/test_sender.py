# SPDX-License-Identifier: GPL-3.0-or-later
"""Lies of a witness gone bad that leave something behind: in our view, in our log, or in what we count."""

from __future__ import annotations

import pytest
from plover.config.timing import Timing
from plover.consensus.consensus import Consensus
from plover.consensus.durable import Durable, Record
from plover.consensus.effects import CANDIDATE, LEADER, Elected
from plover.consensus.log import INPUT, Entry, pack
from plover.consensus.sender import LEAP_VIEWS_MAX
from plover.errors import WireError
from plover.protocol import wire

MEMBERS = {"primary": "replica", "secondary": "replica", "witness": "witness"}
KNOWN = Durable(1, None, Record(1, 1, frozenset(("primary", "secondary"))))
NEVER = 2**62


def primary(state: Durable | None) -> Consensus:
    member = Consensus("primary", MEMBERS, state, Timing(0.1, 0.02), 0.0)
    member.eligible = True
    return member


def candidate() -> Consensus:
    member = primary(KNOWN)
    member.tick(1.0)
    member.receive(1.0, "witness", wire.VoteReply(2, True, True, False, 0, 0))
    member.take()
    assert (member.role, member.view) == (CANDIDATE, 2)
    return member


def leader() -> Consensus:
    member = candidate()
    member.receive(1.0, "witness", wire.VoteReply(2, False, True, False, 0, 0))
    assert any(isinstance(out, Elected) for out in member.take()) and member.role == LEADER
    return member


@pytest.mark.parametrize("state", [Durable(), KNOWN], ids=["new", "known"])
@pytest.mark.parametrize("view", [NEVER, 2**64 - 1, LEAP_VIEWS_MAX + 2])
def test_a_view_that_leaps_is_refused_by_a_new_member_too(state, view):
    member = primary(state)
    for lie in (wire.VoteReply(view, True, False, False, 0, 0), wire.HeartbeatAck(view, 0, 0, 0, 0), wire.AppendAck(view, 0, False)):
        with pytest.raises(WireError, match="views do not leap so far"):
            member.receive(0.0, "witness", lie)
    assert member.view == state.view
    member.force_lead(1.0)
    assert member.view < LEAP_VIEWS_MAX, "all others follow it"


def test_a_member_that_has_forgotten_its_view_follows_a_leader_of_any():
    member = primary(None)
    view = 3 * LEAP_VIEWS_MAX
    for other in member.others:
        member.receive(0.0, other, wire.VoteReply(view, True, False, False, 0, 0))
    member.receive(0.0, "secondary", wire.Heartbeat(view, 1, 0, view, 1, 2))
    assert (member.view, member.leader, member.amnesia) == (view, "secondary", None)


@pytest.mark.parametrize("views", [[3], [2**64 - 1], [2, 1]])
def test_a_vote_brings_no_entries_of_views_that_were_not_yet(views):
    member = candidate()
    entries = pack(Entry(n, view, INPUT, b"x") for n, view in enumerate(views, 1))
    with pytest.raises(WireError, match="log entries of view"):
        member.receive(1.0, "witness", wire.VoteReply(2, False, True, True, 0, 0, entries))
    assert member.role == CANDIDATE and member.log.last_index == 0
    member.receive(1.0, "secondary", wire.VoteReply(2, False, True, False, 0, 0))
    assert member.role == LEADER, "an honest vote elects it"


@pytest.mark.parametrize("lie", [wire.HeartbeatAck(2, 2**40, 0, 1, 1), wire.AppendAck(2, 2**40, True)])
def test_an_answer_to_something_never_sent_counts_for_nothing(lie):
    member = leader()
    member.alone = True
    before = dict(member.followers.answered_at)
    with pytest.raises(WireError, match="the last one"):
        member.receive(5.0, "witness", lie)
    assert member.alone and member.followers.answered_at == before and member.role == LEADER
