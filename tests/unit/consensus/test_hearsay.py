# SPDX-License-Identifier: GPL-3.0-or-later
"""A leader that is told of a later view: by whom, and how long after the other replica was last with it."""

from __future__ import annotations

import pytest
from plover.config.timing import Timing
from plover.consensus.consensus import FRESH_SHARE, Consensus
from plover.consensus.durable import Durable, Record
from plover.consensus.effects import CANDIDATE, FOLLOWER, LEADER, Deposed
from plover.protocol import wire

MEMBERS = {"primary": "replica", "secondary": "replica", "witness": "witness"}
KNOWN = Durable(1, None, Record(1, 1, frozenset(("primary", "secondary"))))
DETECTION_S, ELECTED_AT = 0.1, 1.0
FRESH_S = FRESH_SHARE * DETECTION_S
WORDS = [
    wire.HeartbeatAck(3, 1, 0, 0, 0),
    wire.AppendAck(3, 0, False),
    wire.VoteReply(3, True, False, False, 0, 0),
    wire.VoteReply(3, False, False, False, 0, 0),
]
each_word = pytest.mark.parametrize("word", WORDS, ids=lambda word: type(word).__name__)


def leader() -> Consensus:
    """Of view 2, elected by the witness."""
    member = Consensus("primary", MEMBERS, KNOWN, Timing(DETECTION_S, 0.02), 0.0)
    member.eligible = True
    member.tick(ELECTED_AT)
    for pre in (True, False):
        member.receive(ELECTED_AT, "witness", wire.VoteReply(2, pre, True, False, 0, 0))
    member.take()
    assert (member.role, member.view) == (LEADER, 2)
    return member


def acknowledged(sent_at: float, arrives_at: float) -> Consensus:
    """A leader whose last heartbeat that the secondary acknowledged was sent at ``sent_at``."""
    member = leader()
    member.tick(sent_at)
    member.receive(arrives_at, "secondary", wire.HeartbeatAck(2, member.followers.seq, 0, 1, 1))
    member.take()
    return member


@each_word
def test_the_witness_alone_does_not_depose_a_leader_that_the_secondary_follows(word):
    member = acknowledged(2.0, 2.001)
    for n in range(5):
        member.receive(2.0 + FRESH_S * n / 5, "witness", word)
    assert (member.role, member.view, member.take()) == (LEADER, 2, [])
    assert member.votes.hearsay.describe() == {"witness": {"count": 5, "view": 3}}


@each_word
def test_with_the_secondary_silent_the_witness_is_believed_at_once_and_nothing_is_promised(word):
    member = acknowledged(2.0, 2.001)
    member.receive(2.0 + FRESH_S + 0.001, "witness", word)
    assert member.role == FOLLOWER and member.take() == [Deposed(3, None, True)]
    assert (member.view, member.votes.hearsay.view) == (2, 3)
    member.tick(3.0)
    assert {sent.message.view for sent in member.take()} == {4}, "it stands beyond the view that it was told"


@each_word
def test_the_secondary_is_believed_at_once(word):
    member = acknowledged(2.0, 2.001)
    member.receive(2.002, "secondary", word)
    assert member.role == FOLLOWER and member.take() == [Deposed(3, None, True)]


def test_an_acknowledgement_that_waited_while_the_leader_was_hung_counts_from_when_its_heartbeat_was_sent():
    member = acknowledged(2.0, 2.0 + 5 * DETECTION_S)
    member.receive(2.0 + 5 * DETECTION_S, "witness", WORDS[0])
    assert member.role == FOLLOWER


def test_one_sided_writes_that_landed_are_acknowledgements_too():
    member = acknowledged(2.0, 2.001)
    member.tick(3.0)
    member.stored("secondary", 2, 0, member.followers.seq)
    member.receive(3.0 + FRESH_S / 2, "witness", WORDS[0])
    assert member.role == LEADER


def test_the_witness_cannot_end_an_election_that_it_has_just_decided():
    member = leader()
    member.receive(ELECTED_AT + 0.001, "witness", WORDS[0])
    assert member.role == LEADER
    member.receive(ELECTED_AT + FRESH_S + 0.001, "witness", WORDS[0])
    assert member.role == FOLLOWER, "the secondary has had its time to answer"


def test_a_hello_of_the_witness_does_not_make_the_leader_less_sure_of_the_secondary():
    member = acknowledged(2.0, 2.001)
    member.connected("witness", Timing(0.02, 0.002))
    member.receive(2.0 + FRESH_S / 2, "witness", WORDS[0])
    assert member.role == LEADER


@each_word
def test_a_follower_that_hears_its_leader_is_not_told_otherwise(word):
    member = Consensus("secondary", MEMBERS, KNOWN, Timing(DETECTION_S, 0.02), 0.0)
    member.eligible = True
    member.receive(2.0, "primary", wire.Heartbeat(2, 1, 0, 1, 1, 3))
    member.take()
    member.receive(2.001, "witness", word)
    member.receive(2.001, "witness", wire.VoteReply(3, True, True, False, 0, 0))
    assert (member.view, member.leader, member.role, member.take()) == (2, "primary", FOLLOWER, [])
    member.receive(2.2, "witness", word)
    assert (member.view, member.leader, member.take()) == (2, "primary", []), "nor does it promise anything when the leader is silent"
    member.tick(2.2)
    assert {sent.message.view for sent in member.take()} == {4}
    member.receive(2.201, "primary", wire.Heartbeat(2, 2, 0, 1, 1, 3))
    assert member.votes.hearsay.view == 2, "the leader is back: what others said does not matter"


def test_a_candidate_that_is_told_of_a_later_view_stands_beyond_it_the_next_time():
    member = Consensus("primary", MEMBERS, KNOWN, Timing(DETECTION_S, 0.02), 0.0)
    member.eligible = True
    member.tick(1.0)
    member.receive(1.0, "witness", wire.VoteReply(2, True, True, False, 0, 0))
    member.receive(1.0, "witness", wire.VoteReply(7, False, False, False, 0, 0))
    assert (member.role, member.view) == (CANDIDATE, 2)
    member.take()
    member.tick(2.0)
    assert {sent.message.view for sent in member.take()} == {8}
