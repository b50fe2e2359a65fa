# SPDX-License-Identifier: GPL-3.0-or-later
"""A witness gone bad speaks of later views, in every way in which a voter may. As long as both replicas hear each other, nobody sees
a difference; and its word is believed where an honest one's is needed.
"""

from __future__ import annotations

import pytest
from plover.consensus.effects import FOLLOWER, LEADER
from plover.protocol import wire

from tests.sim.claims import SEEDS, each_seed, protected
from tests.sim.test_paper_claims_failures import leads, next_answer_s
from tests.sim.watch import DISK, Watched

EVERY_S, LIES_S = 0.003, 1.0
REPLICAS = ("primary", "secondary")
DETECTION_S = 0.1


def words(view: int) -> list[wire.Message]:
    return [
        wire.HeartbeatAck(view + 1, 1, 0, 0, 0),
        wire.AppendAck(view + 1, 0, False),
        wire.AppendAck(view + 7, 0, True),
        wire.VoteReply(view + 1, True, False, False, 0, 0),
        wire.VoteReply(view + 1, False, False, False, 0, 0),
        wire.VoteReply(view + 1, True, True, False, 0, 0),
        wire.VoteReply(view + 1, False, True, False, 0, 0),
        wire.VoteReply(view + 1000, True, False, False, 0, 0),
    ]


def lies(world: Watched, seconds: float) -> None:
    """To both replicas, each word in turn, all the time."""
    end, told = world.loop.now + seconds, iter(range(1 << 30))

    def lie() -> None:
        n = next(told)
        member = world.members[REPLICAS[n % 2]]
        if not member.dead and not member.holds:
            member.message("witness", wire.CONTROL, words(member.consensus.view)[n // 2 % 8])
        if world.loop.now < end:
            world.loop.after(EVERY_S, None, lie)

    lie()


def test_the_witness_lies_and_clients_see_no_difference():
    """Every answer comes at the very time it would have come anyway; and nobody promises anything."""
    histories = []
    for lying in (False, True):
        world = protected(3, steady=True).run(0.05)
        if lying:
            lies(world, LIES_S)
        world.run(2.0)
        assert world.protected() and world.leader().consensus.view == 1
        assert not world.all(DISK, object)
        histories.append([c.history for c in world.clients])
        said = [world.members[name].consensus.votes.hearsay.doubts.get("witness", (0, 0))[0] for name in REPLICAS]
        assert all(count > 50 for count in said) if lying else said == [0, 0], said
    assert histories[0] == histories[1] and sum(map(len, histories[0])) > 100


@each_seed
def test_a_lying_witness_does_not_end_an_election_that_the_secondary_has_won(seed):
    """It may only withhold its vote. It gives it here, and lies before, during and after."""
    world = protected(seed).run(0.1)
    lies(world, 3.0)
    answers: list = []
    world.members["primary"].call("switchover", answers.append)
    world.until(lambda: leads(world, "secondary"))
    view = world.leader().consensus.view
    world.until(world.protected)
    world.run(1.0)
    assert world.leader().consensus.view == view == 2 and answers == [None]
    world.check_history()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_witness_that_really_voted_for_the_secondary_is_believed_at_once(seed):
    """The old leader was hung, and is cut off from the secondary: only the witness can tell it, and its first word is enough."""
    world = protected(seed).run(0.1)
    old = world.members["primary"]
    world.freeze("primary")
    for pair in (("primary", "secondary"), ("secondary", "primary")):
        world.network.cut(*pair)
    world.until(lambda: leads(world, "secondary"))
    world.thaw("primary")
    thawed_at = world.loop.now
    world.until(lambda: old.consensus.role == FOLLOWER)
    assert world.loop.now - thawed_at < DETECTION_S / 2
    next_answer_s(world)
    world.rejoin("primary")
    world.until(world.protected)
    world.check_history()


@pytest.mark.parametrize("seed", SEEDS)
def test_lies_leave_nothing_that_hinders_a_failover_with_an_honest_witness(seed):
    world = protected(seed).run(0.1)
    lies(world, 0.5)
    world.run(0.6)
    before = {name: world.members[name].consensus.promises.record for name in REPLICAS}
    assert {record.order for record in before.values()} == {(1, 2)}
    world.power_loss("primary")
    world.until(lambda: leads(world, "secondary"))
    assert world.members["secondary"].consensus.role == LEADER and world.leader().consensus.view == 2
    next_answer_s(world)
    world.check_history()
