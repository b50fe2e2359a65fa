# SPDX-License-Identifier: GPL-3.0-or-later
"""A member whose state folder is empty: it harms nobody, and takes part again once it knows what it must have known."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plover.config.timing import Timing
from plover.consensus import votes
from plover.consensus.amnesia import QUESTION, Amnesia
from plover.consensus.consensus import Consensus
from plover.consensus.durable import Durable, Record
from plover.consensus.effects import CANDIDATE, FOLLOWER, LEADER, Persist, Send
from plover.consensus.group import Group
from plover.consensus.sender import ERA
from plover.errors import WireError
from plover.protocol import wire

from tests.sim.rig import protected

pytestmark = pytest.mark.usefixtures("small_pages")

KINDS = {"primary": "replica", "secondary": "replica", "witness": "witness"}
BOTH, ALONE = frozenset({"primary", "secondary"}), frozenset({"primary"})
STALE = wire.VoteRequest(view=6, pre=False, transfer=False, record_view=5, record_version=1, record_in_sync=3, last_view=0, last_index=0)


def member(name: str, state: Durable | None) -> Consensus:
    out = Consensus(name, KINDS, state, Timing(0.1, 0.02), 0.0)
    out.eligible = True
    return out


def beat(view: int, version: int = 2, in_sync: int = 1) -> wire.Heartbeat:
    return wire.Heartbeat(view, 1, 0, view, version, in_sync)


def refusal(view: int, ahead: bool = False) -> wire.VoteReply:
    return wire.VoteReply(view, True, False, ahead, 0, 0)


def told(cons: Consensus, src: str, *messages: wire.Message, now: float = 0.0) -> list:
    cons.take()
    for m in messages:
        cons.receive(now, src, m)
    return cons.take()


def test_the_witness_that_remembers_refuses_a_stale_replica_and_the_one_that_forgot_gives_no_vote():
    remembers = member("witness", Durable(5, None, Record(5, 2, ALONE)))
    assert [out.message.granted for out in told(remembers, "secondary", STALE, now=9.0)] == [False]
    assert told(member("witness", None), "secondary", STALE, now=9.0) == []


@pytest.mark.parametrize("name", ["witness", "secondary"])
@pytest.mark.parametrize(
    "m",
    [
        STALE,
        beat(5),
        wire.ProposeRecord(5, 5, 2, 1),
        wire.Append(5, 0, 0, False, b""),
        wire.HeartbeatAck(9, 1, 0, 0, 0),
        wire.AppendAck(9, 1, True),
    ],
    ids=lambda m: type(m).__name__,
)
def test_nothing_is_answered_stored_or_adopted(name, m):
    cons = member(name, None)
    assert told(cons, "primary", m) == []
    assert (cons.view, cons.record, cons.role, cons.leader) == (0, Record(), FOLLOWER, None)


def test_it_stands_for_nothing_even_if_it_is_the_preferred_leader_or_is_asked_to_take_over():
    cons = member("primary", None)
    for now in (1.0, 2.0, 3.0):
        cons.tick(now)
        cons.take_over(now)
    assert {out.message for out in cons.take()} == {QUESTION} and cons.role == FOLLOWER


def test_every_member_tells_its_view_when_asked_and_keeps_its_state():
    for state in (Durable(), Durable(4, "secondary", Record(4, 1, BOTH)), Durable(7, None, Record(4, 1, BOTH))):
        for name, src in itertools.permutations(KINDS, 2):
            cons = member(name, state)
            assert told(cons, src, QUESTION, now=9.0) == [Send(src, refusal(state.view))]
            assert (cons.view, cons.voted_for, cons.record) == state


def test_a_member_of_an_older_version_does_so_too(monkeypatch):
    monkeypatch.setattr(votes, "is_question", lambda m: False)
    monkeypatch.setattr(Group, "packed", lambda self, record: b"")  # nor did it tell its record
    test_every_member_tells_its_view_when_asked_and_keeps_its_state()


def test_who_has_forgotten_does_not_answer_who_has_forgotten():
    assert told(member("secondary", None), "witness", QUESTION) == []


def test_it_recovers_from_the_leader_of_the_highest_view_that_both_others_told():
    cons = member("witness", None)
    told(cons, "primary", refusal(5), beat(5))
    told(cons, "secondary", refusal(6))
    assert told(cons, "primary", beat(5)) == []  # deposed, and may not know it
    out = told(cons, "secondary", beat(6, 3, 2))
    state = Durable(6, None, Record(6, 3, frozenset({"secondary"})))
    assert Persist(state) in out and cons.amnesia is None
    assert out.index(Persist(state)) < out.index(Send("secondary", wire.HeartbeatAck(6, 1, 0, 6, 3)))
    assert [m.message.granted for m in told(cons, "primary", STALE, now=9.0)] == [False]


def test_in_the_view_in_which_it_recovered_it_votes_for_nobody():
    cons = member("witness", None)
    told(cons, "primary", refusal(6))
    told(cons, "secondary", refusal(6), beat(6))
    again = wire.VoteRequest(6, False, False, 6, 9, 1, 0, 0)
    assert [m.message.granted for m in told(cons, "primary", again, now=9.0)] == [False]


def test_a_heartbeat_counts_as_its_leaders_answer_and_one_answer_is_not_enough():
    cons = member("secondary", None)
    assert told(cons, "primary", beat(5), beat(5)) == []
    assert "waiting for witness to answer" in cons.forgotten(1.0) and "failover --force" in cons.forgotten(1.0)
    told(cons, "witness", refusal(5))
    assert "waiting for a leader of view 5 or later" in cons.forgotten(1.0)
    assert told(cons, "primary", beat(5)) and cons.forgotten(1.0) == "" and cons.view == 5


def test_a_leaders_nonsense_leaves_it_as_it_was():
    cons = member("witness", None)
    told(cons, "primary", refusal(5))
    told(cons, "secondary", refusal(5))
    with pytest.raises(WireError, match="in-sync mask"):
        cons.receive(0.0, "primary", beat(5, in_sync=0x70))
    assert cons.amnesia and cons.record == Record()
    assert told(cons, "primary", wire.Heartbeat(0, 1, 0, 0, 0, 0)) == []


def test_a_leader_by_force_is_enough_until_somebody_has_acknowledged_it():
    forced = member("primary", Durable(5, None, Record(5, 2, BOTH)))
    forced.force_lead(0.0)
    (answer,) = told(forced, "witness", QUESTION)
    assert answer == Send("witness", refusal(forced.view, ahead=True)) and forced.view >= ERA
    cons = member("witness", None)
    told(cons, "primary", answer.message)
    out = told(cons, "primary", beat(forced.view))
    assert cons.amnesia is None and any(isinstance(o, Send) and isinstance(o.message, wire.HeartbeatAck) for o in out)
    forced.tick(0.0)
    told(forced, "witness", *(o.message for o in out if isinstance(o, Send)))
    assert not forced.alone
    assert told(forced, "secondary", QUESTION)[0].message.ahead is False


def test_forced_itself_it_leads_a_view_after_all_that_it_was_told():
    cons = member("primary", None)
    told(cons, "witness", refusal(3 * ERA + 5))
    cons.force_lead(0.0)
    assert cons.role == LEADER and cons.view > 3 * ERA + 5 and cons.amnesia is None


def test_two_that_have_forgotten_say_so_with_the_remedy():
    cons = member("witness", None)
    told(cons, "secondary", QUESTION)
    assert "secondary has forgotten too" in cons.forgotten(1.0) and "failover --force" in cons.forgotten(1.0)
    told(cons, "primary", QUESTION)
    assert "nobody remembers this VM" in cons.forgotten(1.0) and "deploy play" in cons.forgotten(1.0)
    assert "came back from copies, empty all three first" in cons.forgotten(1.0)
    assert "waiting for primary and secondary" in cons.forgotten(99.0)


@given(st.data())
def test_whoever_it_forgot_to_have_voted_for_no_old_leader_gets_its_word(data):
    """It voted for ``candidate`` in ``view``; that one has the view on its disk. Whatever comes after its start, in whatever
    order: it ends in no view below."""
    view = data.draw(st.integers(2, 6))
    candidate = data.draw(st.sampled_from(["primary", "secondary"]))
    other = {"primary": "secondary", "secondary": "primary"}[candidate]
    says = {candidate: view, other: data.draw(st.integers(1, view))}
    cons = member("witness", None)
    for _ in range(data.draw(st.integers(1, 12))):
        src = data.draw(st.sampled_from([candidate, other]))
        says[src] = data.draw(st.integers(says[src], 8))
        kind = data.draw(st.sampled_from([refusal, beat]))
        if cons.amnesia and (kind is refusal or says[src] != says[{candidate: other, other: candidate}[src]]):
            told(cons, src, kind(says[src]))
    assert cons.amnesia or cons.view >= view
    assert cons.role != CANDIDATE


def test_what_is_missing_is_told_in_order():
    amnesia = Amnesia(("primary", "secondary"))
    assert amnesia.missing == ["primary", "secondary"] and amnesia.newest == 0
    amnesia.heard("secondary", refusal(0))
    assert amnesia.missing == ["primary"]


def test_a_leader_that_forgot_that_it_led_is_taken_for_lost_at_once():
    group = protected()
    group.install_anew("primary")
    group.until(lambda: group["secondary"].core.leading and group["primary"].consensus.amnesia is None)
    group.until(group.protected)
    assert group.serving().name == "secondary"


def test_if_the_only_host_in_sync_forgot_all_the_vm_is_booted_afresh_on_the_other_by_an_operator_alone():
    group = protected()
    group.kill("secondary")
    group.until(lambda: group["witness"].consensus.record.in_sync == ALONE)
    group.restart("secondary")
    group.until(lambda: group["secondary"].consensus.record.in_sync == ALONE)
    secondary = group["secondary"]
    assert "a leader or a copy of the VM's state exists" in secondary.cold_start(forced=True)
    group.install_anew("primary")
    group.run(3.0)
    assert group.serving() is None and group["primary"].cold_start().startswith("refused: this host has forgotten")
    assert "has forgotten" in group["primary"].status()["sentence"]
    assert "cold-start --force" in secondary.cold_start() and secondary.cold_start(forced=True) is None
    group.run(3.0)
    assert group.serving() is None
    assert secondary.force() is None
    group.until(group.protected)
    assert group.serving().name == "secondary" and group["primary"].consensus.amnesia is None


def test_if_both_others_forgot_the_leader_is_forced_and_they_follow():
    group = protected()
    for name in ("secondary", "witness"):
        group.install_anew(name)
    primary = group["primary"]
    group.run(2.0)
    assert primary.status()["service"] == "down" and "failover --force" in primary.status()["sentence"]
    assert group["witness"].consensus.amnesia and group["secondary"].consensus.amnesia
    assert primary.force() is None
    group.until(group.protected)
    assert group.serving().name == "primary" and not primary.consensus.alone
