# SPDX-License-Identifier: GPL-3.0-or-later
"""Votes by themselves, with nothing around them but what :class:`Seat` declares."""

from __future__ import annotations

import struct

import pytest
from plover.config.timing import Timing
from plover.consensus.durable import Durable, Record
from plover.consensus.effects import CANDIDATE, FOLLOWER, LEADER
from plover.consensus.group import Group
from plover.consensus.hearsay import AHEAD_VIEWS_MAX
from plover.consensus.log import INPUT, Entry, Log
from plover.consensus.promises import Promises
from plover.consensus.votes import Seat, Votes
from plover.errors import WireError
from plover.protocol import wire

KINDS = {"primary": "replica", "secondary": "replica", "witness": "witness"}
BOTH, LATE = frozenset({"primary", "secondary"}), 9.0
IN_SYNC = Durable(3, None, Record(2, 1, BOTH))


class Chair(Seat):
    """A member that only notes, in order, what its votes ask of it."""

    def __init__(self, me: str = "secondary", state: Durable | None = IN_SYNC) -> None:
        self.eligible, self.role, self.leader, self.alone = True, FOLLOWER, None, False
        self.heard = 0.0
        self.done: list[object] = []
        self.seal = lambda now: self.done.append("seal")
        self.log = Log()
        self.promises = Promises(state or Durable(), self.done.append)
        self.votes = Votes(Group(me, KINDS), Timing(0.1, 0.02), self.promises, self.log, self, state is None, 0.0)

    @property
    def silent_since(self) -> float:
        return self.heard

    def hears_leader(self, now: float) -> bool:
        return now - self.heard < 0.1

    def with_other_replica(self, now: float) -> bool:
        return self.role != LEADER and self.hears_leader(now)

    def send(self, to: str, message: wire.Message) -> None:
        self.done.append(message)

    def follow(self, now: float, view: int, leader: str | None) -> None:
        self.promises.enter(view)

    def step_down(self, view: int, leader: str | None) -> None:
        self.role = FOLLOWER

    def stand(self) -> None:
        self.role, self.leader = CANDIDATE, None

    def give_up(self) -> None:
        self.role = FOLLOWER

    def lead(self, now: float) -> None:
        self.role = LEADER

    def sent(self, kind: type[wire.Message]) -> list[wire.Message]:
        return [item for item in self.done if isinstance(item, kind)]


def request(view: int = 4, pre: bool = False, transfer: bool = False, record: tuple[int, int, int] = (2, 1, 3)) -> wire.VoteRequest:
    return wire.VoteRequest(view, pre, transfer, *record, 0, 0)


def reply(view: int, pre: bool, granted: bool = True) -> wire.VoteReply:
    return wire.VoteReply(view, pre, granted, False, 0, 0)


@pytest.mark.parametrize(
    "src, heard, message, why",
    [
        ("primary", 0.0, request(), None),
        ("witness", 0.0, request(), "the witness never leads"),
        ("primary", 0.0, request(record=(1, 9, 3)), "its in-sync record is older than mine"),
        ("primary", 0.0, request(record=(2, 2, 2)), "it is not in the in-sync set"),
        ("primary", 0.0, request(view=3), "the view is taken"),
        ("primary", LATE, request(), "the leader is alive"),
        ("primary", LATE, request(transfer=True), None),
    ],
)
def test_a_vote_is_refused_for_a_reason_and_then_nothing_is_promised(src, heard, message, why):
    chair = Chair()
    chair.heard = heard
    assert chair.votes.refusal(LATE, src, message) == why
    chair.votes.on_request(LATE, src, message)
    (answer,) = chair.sent(wire.VoteReply)
    assert answer.granted == (why is None)
    assert chair.sent(Durable) == ([Durable(4, "primary", Record(2, 1, BOTH))] if why is None else [])


def test_a_vote_is_sealed_and_then_on_disk_before_it_is_told():
    chair = Chair()
    chair.votes.on_request(LATE, "primary", request())
    assert list(map(type, chair.done)) == [str, Durable, wire.VoteReply]


def test_a_pre_vote_promises_nothing_on_either_side():
    voter = Chair()
    voter.votes.on_request(LATE, "primary", request(pre=True))
    assert voter.sent(wire.VoteReply)[0].granted and voter.done == voter.sent(wire.VoteReply)
    asks = Chair()
    asks.votes.tick(LATE)
    assert [m.pre for m in asks.sent(wire.VoteRequest)] == [True, True] and not asks.sent(Durable) and asks.role == FOLLOWER


def test_a_candidate_wins_with_one_vote_besides_its_own_and_that_one_is_on_disk_first():
    chair = Chair()
    chair.votes.tick(LATE)
    chair.votes.on_reply(LATE, "witness", reply(4, pre=True))
    assert chair.role == CANDIDATE and chair.sent(Durable) == [Durable(4, "secondary", Record(2, 1, BOTH))]
    asked = [n for n, item in enumerate(chair.done) if isinstance(item, wire.VoteRequest) and not item.pre]
    assert chair.done.index("seal") < chair.done.index(chair.sent(Durable)[0]) < min(asked)
    chair.votes.on_reply(LATE, "witness", reply(4, pre=True))  # late: of the question before
    chair.votes.on_reply(LATE, "witness", reply(3, pre=False))  # of another view
    assert chair.role == CANDIDATE
    chair.votes.on_reply(LATE, "witness", reply(4, pre=False))
    assert chair.role == LEADER


def test_a_candidate_that_lost_its_state_gives_up_instead_of_leading():
    chair = Chair()
    chair.votes.ask(LATE, pre=False, transfer=False)
    chair.eligible = False
    chair.votes.on_reply(LATE, "witness", reply(4, pre=False))
    assert chair.role == FOLLOWER


def test_a_leader_that_hands_over_is_asked_alone_and_its_entries_become_ours():
    chair = Chair()
    chair.leader, chair.heard = "primary", LATE
    chair.votes.ask(LATE, pre=False, transfer=True)
    assert len(chair.sent(wire.VoteRequest)) == 1
    theirs = Chair("primary")
    theirs.leader = "primary"
    theirs.log.append(Entry(1, 3, INPUT, b"frame"))
    theirs.votes.on_request(LATE, "secondary", chair.sent(wire.VoteRequest)[0])
    chair.votes.on_reply(LATE, "primary", theirs.sent(wire.VoteReply)[0])
    assert chair.role == LEADER and chair.log.after(0) == [Entry(1, 3, INPUT, b"frame")] and theirs.votes.transfer_granted


@pytest.mark.parametrize(
    "me, state, eligible",
    [
        ("witness", IN_SYNC, True),
        ("secondary", IN_SYNC, False),
        ("secondary", Durable(3, None, Record(2, 1, frozenset({"primary"}))), True),
        ("secondary", None, True),
    ],
    ids=["witness", "without state", "out of the record", "without memory"],
)
def test_who_may_not_lead_does_not_stand(me, state, eligible):
    chair = Chair(me, state)
    chair.eligible = eligible
    assert not chair.votes.may_stand()
    chair.votes.tick(LATE)
    chair.votes.ask(LATE, pre=False, transfer=True)
    assert chair.role == FOLLOWER and not chair.sent(Durable)


def refused(voter: Chair, src: str, **more) -> wire.VoteReply:
    voter.votes.on_request(LATE, src, request(**more))
    (answer,) = voter.sent(wire.VoteReply)
    assert not answer.granted
    return answer


@pytest.mark.parametrize("known", [Record(2, 1, BOTH), Record(2, 4, frozenset({"primary"}))])
def test_a_replica_that_was_recorded_in_sync_without_hearing_of_it_learns_it_from_a_refusal(known):
    """Its leader died in that moment. Otherwise nobody could ever lead: the others know that its record is older."""
    chair, order = Chair(state=Durable(3, None, known)), (known.view, known.version, 3)
    chair.votes.tick(LATE)
    assert [m.pre for m in chair.sent(wire.VoteRequest)] == [True, True] and chair.role == FOLLOWER
    newest = Record(2, 5, BOTH)
    answer = refused(Chair("witness", Durable(3, None, newest)), "secondary", pre=True, record=order)
    chair.votes.on_reply(LATE, "witness", answer)
    assert chair.sent(Durable) == [] and chair.votes.may_stand(), "it is no promise yet"
    chair.votes.ask(LATE, pre=True, transfer=False)
    assert chair.sent(wire.VoteRequest)[-1].record_version == 5
    chair.votes.on_reply(LATE, "witness", reply(4, pre=True))
    assert chair.sent(Durable) == [Durable(4, "secondary", newest)]


@pytest.mark.parametrize("record", [Record(3, 5, frozenset({"primary"})), Record(3, 2**61, BOTH)], ids=["not ours", "version leaps"])
def test_a_record_told_by_a_voter_that_is_of_no_use_to_us_is_passed_over(record):
    chair = Chair()
    group = Group("witness", KINDS)
    chair.votes.on_reply(LATE, "witness", wire.VoteReply(3, True, False, False, 0, 0, group.packed(record)))
    assert chair.votes.hearsay.record == IN_SYNC.record and chair.done == []


def test_a_later_view_that_a_voter_speaks_of_is_the_next_one_to_stand_beyond_and_no_promise():
    chair = Chair()
    chair.votes.tick(LATE)
    chair.votes.on_reply(LATE, "witness", reply(9, pre=True, granted=False))
    assert chair.done == chair.sent(wire.VoteRequest), "nothing is on disk"
    chair.votes.tick(LATE + 1)
    assert [m.view for m in chair.sent(wire.VoteRequest)] == [4, 4, 10, 10]
    chair.votes.on_reply(LATE, "witness", reply(4, pre=True))  # of the question before
    assert chair.role == FOLLOWER
    chair.votes.on_reply(LATE + 1, "witness", reply(10, pre=True))
    assert chair.sent(Durable) == [Durable(10, "secondary", Record(2, 1, BOTH))]


def test_who_hears_a_leader_is_neither_led_astray_nor_made_to_stand_by_the_witness():
    chair = Chair()
    chair.votes.tick(LATE)  # it asked once
    chair.heard = LATE
    chair.votes.on_reply(LATE, "witness", reply(9, pre=True, granted=False))
    chair.votes.on_reply(LATE, "witness", reply(4, pre=True))
    assert chair.role == FOLLOWER and not chair.sent(Durable) and chair.votes.hearsay.view == 3
    assert chair.votes.hearsay.describe() == {"witness": {"count": 1, "view": 9}}


def test_the_witness_alone_leads_nobody_so_far_that_others_would_not_follow():
    chair = Chair()
    chair.votes.on_reply(LATE, "witness", reply(3 + AHEAD_VIEWS_MAX + 1, pre=True, granted=False))
    assert chair.votes.hearsay.view == 3 and chair.votes.hearsay.describe()["witness"]["count"] == 1
    chair.votes.on_reply(LATE, "primary", reply(3 + AHEAD_VIEWS_MAX + 1, pre=True, granted=False))
    assert chair.votes.hearsay.view == 3 + AHEAD_VIEWS_MAX + 1
    chair.votes.hearsay.forget()
    assert chair.votes.hearsay.view == 3


def test_a_replica_that_the_newest_record_does_not_name_learns_nothing():
    alone = Durable(3, None, Record(2, 5, frozenset({"primary"})))
    assert refused(Chair("witness", alone), "secondary").payload == b""
    assert refused(Chair("witness", Durable(3, None, Record(2, 1, BOTH))), "secondary", view=3).payload == b"", "it knows that one"


@pytest.mark.parametrize(
    "payload", [b"x", bytes(16), struct.pack("!QQB", 9, 1, 3), struct.pack("!QQB", 1, 2**63, 3), struct.pack("!QQB", 1, 1, 8)]
)
def test_a_refusal_with_a_record_that_makes_no_sense_is_refused(payload):
    chair = Chair()
    with pytest.raises(WireError, match="in-sync"):
        chair.votes.on_reply(LATE, "witness", wire.VoteReply(3, True, False, False, 0, 0, payload))
    assert chair.done == []
