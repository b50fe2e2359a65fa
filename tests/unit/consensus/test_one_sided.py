# SPDX-License-Identifier: GPL-3.0-or-later
"""The log written into others' memory: what the simulator does not try, as no good card or member does it."""

from __future__ import annotations

import pytest
from plover.config.timing import Timing
from plover.consensus.consensus import Consensus
from plover.consensus.durable import Durable, Record
from plover.consensus.effects import LEADER
from plover.consensus.log import INPUT, Entry, last_index, pack
from plover.consensus.one_sided import COUNTERS_BYTES, Counters, OneSided
from plover.protocol import codec, wire

MEMBERS = {"primary": "replica", "secondary": "replica", "witness": "witness"}
STATE = Durable(1, "primary", Record(1, 1, frozenset(("primary", "secondary"))))


class Card:
    """Takes down what it is asked; what lands is put there by the test."""

    def __init__(self) -> None:
        self.asked: list[tuple] = []
        self.frames: list[bytes] = []
        self.counters = b""

    def offer(self, leader, ring):
        self.asked.append(("offer", leader, ring))
        return b"place"

    def open(self, leader, answer):
        self.asked.append(("open", leader, answer))
        return True

    def revoke(self, leader):
        self.asked.append(("revoke", leader))

    def landed(self, leader):
        return self.frames.pop(0) if self.frames else None

    def publish(self, leader, counters):
        self.counters = counters

    def accept(self, follower, ring, offer):
        self.asked.append(("accept", follower, ring))
        return b"writer"

    def write(self, follower, frame):
        self.asked.append(("write", follower, next(iter(codec.Decoder(1).feed(frame)))))
        return len(self.asked)

    def read(self, follower):
        self.asked.append(("read", follower))

    def close(self, follower):
        self.asked.append(("close", follower))


def member(name: str):
    card = Card()
    consensus = Consensus(name, MEMBERS, STATE, Timing(0.1, 0.02), 0.0)
    one = OneSided(consensus, card, 1, lambda src, message: consensus.receive(one._now, src, message), 5)
    return consensus, one, card


def heartbeat(view: int = 1, seq: int = 1) -> wire.Heartbeat:
    return wire.Heartbeat(view, seq, 0, 1, 1, 3)


def with_ring():
    """The witness, and the ring that it gave to the primary."""
    consensus, one, card = member("witness")
    one.receive(0.0, "primary", heartbeat())
    ((_, offer),) = [m for m in one.take() if isinstance(m[1], wire.RingOffer)]
    one.receive(0.0, "primary", wire.RingAccept(1, offer.ring, b"writer"))
    return consensus, one, card


def append(prev: int, *numbers: int) -> wire.Append:
    return wire.Append(1, prev, 1 if prev else 0, False, pack(Entry(n, 1, INPUT, b"x") for n in numbers))


def frame(message: wire.Message) -> bytes:
    return b"".join(codec.encode(message, 1))


def test_a_leader_that_speaks_by_message_gets_a_ring_and_not_two():
    _, one, card = with_ring()
    assert [asked[0] for asked in card.asked] == ["offer", "open"]
    assert [type(m) for _, m in one.take()] == [wire.RingReady]
    assert len(card.counters) == COUNTERS_BYTES


@pytest.mark.parametrize(
    "message",
    [
        wire.RingAccept(1, 7, b"w"),
        wire.RingAccept(2, 7, b"w"),
        wire.RingReady(1, 7),
        wire.RingOffer(1, 7, b"p"),
        wire.RingOffer(9, 7, b"p"),
    ],
)
def test_what_is_not_awaited_changes_nothing(message):
    _, one, card = member("witness")
    one.receive(0.0, "primary", message)
    assert not card.asked and not one.take()


def test_before_a_vote_the_permission_goes_and_what_landed_counts():
    consensus, one, card = with_ring()
    card.frames = [frame(append(0, 1, 2, 3))]
    one.receive(1.0, "secondary", wire.VoteRequest(2, False, True, 1, 1, 3, 0, 0))  # the leader itself asked for it
    assert card.asked[-1] == ("revoke", "primary") and not card.frames
    (reply,) = [o.message for o in consensus.take() if isinstance(getattr(o, "message", None), wire.VoteReply)]
    assert reply.granted and reply.ahead and last_index(reply.payload, 0) == 3


def test_a_landed_heartbeat_speaks_against_a_vote():
    consensus, one, card = with_ring()
    card.frames = [frame(heartbeat(seq=2))]
    one.receive(1.0, "secondary", wire.VoteRequest(2, False, False, 1, 1, 3, 0, 0))
    (reply,) = [o.message for o in consensus.take() if isinstance(getattr(o, "message", None), wire.VoteReply)]
    assert not reply.granted and consensus.view == 1
    assert card.asked[-1] == ("revoke", "primary"), "it was to be granted, until the heartbeat was found"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"junk" * 20,
        frame(heartbeat())[:-1],
        frame(heartbeat()) * 2,
        frame(wire.Leave(1, b"")),
        frame(wire.VoteReply(1, False, True, False, 0, 0)),
    ],
    ids=["empty", "junk", "cut", "two", "no-leaders", "vote"],
)
def test_a_ring_holds_what_a_leader_says_or_is_refused(data):
    _, one, card = with_ring()
    card.frames = [data, frame(heartbeat(seq=2))]
    one.poll(0.0)
    assert [src for src, _ in one.refused()] == ["primary"] and card.asked[-1] == ("revoke", "primary")
    assert one.refused() == []


LIES = {
    "view that leaps": heartbeat(view=2**40),
    "record of a later view": wire.ProposeRecord(1, 2, 9, 3),
    "endless counter": heartbeat(seq=2**64 - 1),
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
def test_a_lie_in_a_ring_neither_ends_a_seal_nor_the_vote_it_is_for(lie):
    consensus, one, card = with_ring()
    card.frames = [frame(append(0, 1)), frame(lie)]
    one.receive(1.0, "secondary", wire.VoteRequest(2, False, True, 1, 1, 3, 0, 0))
    assert not one.grants and [src for src, _ in one.refused()] == ["primary"]
    (reply,) = [o.message for o in consensus.take() if isinstance(getattr(o, "message", None), wire.VoteReply)]
    assert reply.granted and consensus.view == 2 and last_index(reply.payload, 0) == 1


def test_counters_that_are_just_being_written_are_none():
    whole = Counters(1, 2, 3, 4, 5, 6, 1, 8).packed()
    assert Counters.unpacked(whole) == Counters(1, 2, 3, 4, 5, 6, 1, 8)
    for at in range(0, len(whole), 8):
        torn = whole[:at] + (int.from_bytes(whole[at : at + 8], "little") ^ 1).to_bytes(8, "little") + whole[at + 8 :]
        assert Counters.unpacked(torn) is None


def leading():
    consensus, one, card = member("primary")
    consensus.eligible = True
    consensus.force_lead(0.0)
    consensus.take()
    assert consensus.role == LEADER
    view = consensus.view
    consensus.alone = False
    one.receive(0.0, "witness", wire.RingOffer(view, 70, b"place"))
    one.receive(0.0, "witness", wire.RingReady(view, 70))
    one.take()
    return consensus, one, card, view


def test_an_entry_counts_by_the_cards_word_only_once_the_follower_agreed():
    consensus, one, card, view = leading()
    consensus.receive(0.0, "witness", wire.HeartbeatAck(view, 0, 0, *consensus.record.order))
    for number in (1, 2):
        consensus.propose(INPUT, b"x")
        for out in consensus.take():
            if getattr(out, "to", "") == "witness":
                one.send(0.0, "witness", out.message)
        written = max(n + 1 for n, asked in enumerate(card.asked) if asked[0] == "write")
        one.written(0.0, "witness", 70, written, True)
        assert consensus.commit_index == (0 if number == 1 else 2)
        if number == 1:
            one.counters_read(0.0, "witness", 70, Counters(70, 0, 1, *consensus.record.order, 1, 1, 1).packed())
            assert consensus.commit_index == 1
    assert consensus.followers.answered_at["witness"] == 0.0


@pytest.mark.parametrize("seq, last_index, appended", [(2**50, 0, 0), (0, 2**63, 0), (0, 0, 2**50)])
def test_counters_that_no_follower_can_have_cost_it_its_ring_and_never_the_leader(seq, last_index, appended):
    consensus, one, card, view = leading()
    committed = consensus.commit_index
    one.counters_read(0.0, "witness", 70, Counters(70, seq, last_index, *consensus.record.order, appended, 1, 1).packed())
    ((src, why),) = one.refused()
    assert src == "witness" and str(why) and card.asked[-1] == ("close", "witness")
    assert consensus.role == LEADER and consensus.view == view and consensus.commit_index == committed


def test_a_failed_write_gives_the_ring_up_and_messages_go_on():
    consensus, one, card, view = leading()
    one.written(0.0, "witness", 70, 1, False)
    assert card.asked[-1] == ("close", "witness")
    one.send(0.0, "witness", heartbeat(view))
    assert one.take() == [("witness", heartbeat(view))]


def test_words_of_another_ring_are_passed_over():
    consensus, one, card, view = leading()
    one.written(0.0, "witness", 69, 1, False)
    one.counters_read(0.0, "witness", 69, b"anything")
    one.counters_read(0.0, "witness", 70, Counters(69, 9, 9, 9, 9, 9, 1, 9).packed())
    assert "witness" in one.rings and consensus.commit_index == 0
