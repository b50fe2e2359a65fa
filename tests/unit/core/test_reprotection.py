# SPDX-License-Identifier: GPL-3.0-or-later
"""Re-protection's table of states: each transition has a way to it, and no other is taken."""

from __future__ import annotations

import itertools

import pytest
from plover.core.reprotection import ABSENT, FILLING, IN_SYNC, LEAVING, NEXT, Reprotection, State
from plover.errors import InvariantViolation

from lab.paths import ROOT
from tests.sim.rig import Rig, protected

pytestmark = pytest.mark.usefixtures("small_pages")

TABLE = {(state, after) for state, others in NEXT.items() for after in others}


@pytest.fixture
def taken(monkeypatch):
    """The transitions that were taken so far."""
    out, good = [], Reprotection._become

    def become(self, state):
        out.append((self.state, state))
        good(self, state)

    monkeypatch.setattr(Reprotection, "_become", become)
    return out


def filling(phase: str) -> Rig:
    group = Rig()
    group.until(lambda: (lead := group["primary"].core.leading) and lead.fill and lead.fill.phase == phase)
    return group


def lose_data_channel(group: Rig) -> None:
    group["primary"].call("data_lost")


def lose_secondary() -> None:
    group = protected()
    group.kill("secondary")
    group.until(lambda: group.serving() and group.serving().status()["in_sync"] == ["primary"])


def lose_data_channel_during_fill() -> None:
    lose_data_channel(filling("live"))


def lose_data_channel_when_the_record_is_on_its_way() -> None:
    group = filling("recording")
    lose_data_channel(group)
    group.until(group.protected)  # filled once more


def elect_another() -> None:
    group = protected()
    group["primary"].switchover()
    group.until(lambda: group.serving() is group["secondary"])


def elect_the_same_again() -> None:
    group = protected()
    group.until(lambda: not group["primary"].core.role.syncvm)
    group["primary"].elect_anew()
    group.until(group.protected)


@pytest.mark.parametrize(
    "way, ends_with",
    [
        (protected, [(ABSENT, FILLING), (FILLING, IN_SYNC)]),
        (lose_secondary, [(IN_SYNC, LEAVING), (LEAVING, ABSENT)]),
        (lose_data_channel_during_fill, [(ABSENT, FILLING), (FILLING, ABSENT)]),
        (lose_data_channel_when_the_record_is_on_its_way, [(FILLING, LEAVING), (LEAVING, ABSENT), (ABSENT, FILLING), (FILLING, IN_SYNC)]),
        (elect_another, [(IN_SYNC, ABSENT)]),
        (elect_the_same_again, [(IN_SYNC, ABSENT), (ABSENT, IN_SYNC)]),
    ],
)
def test_each_way_takes_its_transitions(taken, way, ends_with):
    way()
    assert taken[-len(ends_with) :] == ends_with
    assert set(taken) <= TABLE


def test_the_ways_above_take_all_that_the_table_has(taken):
    for way in (
        protected,
        lose_secondary,
        lose_data_channel_during_fill,
        lose_data_channel_when_the_record_is_on_its_way,
        elect_another,
        elect_the_same_again,
    ):
        way()
    assert set(taken) == TABLE


@pytest.mark.parametrize("before, after", [pair for pair in itertools.product(State, State) if pair not in TABLE])
def test_what_is_not_in_the_table_is_a_broken_invariant(before, after):
    own = protected()["primary"].core.leading.reprotection
    own.state = before
    with pytest.raises(InvariantViolation, match=f"secondary is {before.value}, and was to be {after.value} next"):
        own._become(after)
    assert own.state is before


def test_who_is_not_in_the_record_never_counts_as_in_sync():
    group = filling("live")
    own = group["primary"].core.leading.reprotection
    with pytest.raises(InvariantViolation, match="the record does not name it"):
        own._become(IN_SYNC)
    assert own.state is FILLING


def test_the_architecture_shows_the_table():
    text = (ROOT / "docs" / "ARCHITECTURE.md").read_text()
    rows = text.split("| The secondary is | and becomes | when |", 1)[1].split("\n\n", 1)[0].splitlines()[2:]
    assert {tuple(map(State, row.strip("| ").split(" | ")[:2])) for row in rows} == TABLE


def test_a_joiner_that_asked_a_moment_ago_is_not_called_silent_before_its_first_answer():
    """As after a stall of the leader, which reads the join request first. Later its silence counts."""
    group = filling("live")
    leader = group["primary"].core
    fill, timeout_s = leader.leading.fill, leader.config.peer_timeout_ms / 1000
    leader.consensus.followers.answered_at["secondary"] = group.now - 100 * timeout_s
    leader.leading.reprotection.enforce_limits()
    assert leader.leading.fill is fill
    group.kill("secondary")
    group.run(2 * timeout_s)
    assert leader.leading.fill is None and "secondary has been silent" in leader.leading.reprotection.note
