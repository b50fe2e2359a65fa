# SPDX-License-Identifier: GPL-3.0-or-later
"""Who gets an entry at once: the replica in sync. The witness does when that one does not answer, or when there is none."""

from __future__ import annotations

import pytest
from plover.consensus.effects import Send
from plover.protocol import wire

from tests.sim.rig import protected
from tests.sim.watch import DOES

pytestmark = pytest.mark.usefixtures("small_pages")
TWO_TICKS_S = 0.012


@pytest.fixture
def group():
    group = protected()
    group.run(0.1)
    return group


def order(group, value: int) -> int:
    """One frame; the index of its entry."""
    group["primary"].call("input", group.frame(value))
    return group["primary"].consensus.log.last_index


def told(group, since: int) -> list[str]:
    """Who was sent entries since then, in order."""
    return [
        seen.thing.to
        for seen in group.seen[since:]
        if (seen.how, type(seen.thing)) == (DOES, Send) and isinstance(seen.thing.message, wire.Append)
    ]


def test_an_entry_goes_to_the_replica_in_sync_and_is_committed_by_its_answer(group):
    since = len(group.seen)
    index = order(group, 5)
    group.until(lambda: group["primary"].consensus.commit_index >= index)
    assert told(group, since) == ["secondary"]


def test_the_witness_gets_it_when_no_answer_comes(group):
    group["secondary"].hold(wire.Append)
    since = len(group.seen)
    index = order(group, 5)
    group.run(TWO_TICKS_S)
    group.until(lambda: group["primary"].consensus.commit_index >= index)
    assert told(group, since)[:2] == ["secondary", "witness"]
    assert group["witness"].consensus.log.last_index >= index


def test_the_witness_gets_the_rest_with_a_heartbeat(group):
    index = order(group, 5)
    group.run(2 * group["primary"].consensus.timing.heartbeat)
    assert max(group["witness"].consensus.log.last_index, group["primary"].consensus.truncate_index) >= index


def test_without_a_replica_in_sync_the_witness_gets_it_at_once(group):
    group.kill("secondary")
    group.until(lambda: group["primary"].status()["service"] == "degraded")
    group.run(0.1)
    since = len(group.seen)
    index = order(group, 5)
    group.until(lambda: group["primary"].consensus.commit_index >= index)
    assert "witness" in told(group, since)
    assert group["witness"].consensus.log.last_index >= index
