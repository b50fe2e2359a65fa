# SPDX-License-Identifier: GPL-3.0-or-later
"""A changed failover_budget_ms goes from member to member: meanwhile they wait for each other differently."""

from __future__ import annotations

import pytest

from tests.sim.plan import CELLS, with_one_sided, with_uneven_budgets
from tests.sim.watch import Watched
from tests.sim.world import settings

SLOW_MS, FAST_MS = 3000, 300  # a slow leader's heartbeats come every 60 ms, a fast member's detection is 30
each_transport = pytest.mark.parametrize("seed", [1, len(CELLS) + 1], ids=["messages", "one-sided"])


def world_of(seed: int) -> Watched:
    """All hosts slow, and no client: what a leader says to order inputs would do as its heartbeats."""
    world = Watched(seed)
    world.clients_end = True
    for name in world.hosts:
        restart_with(world, name, SLOW_MS)
    world.until(world.protected)
    return world


def restart_with(world: Watched, name: str, budget_ms: int) -> None:
    world.hosts[name].config = settings(name, 20, 1000, world.disks, budget_ms)
    world.kill_daemon(name)


@each_transport
def test_a_rolling_restart_with_a_tenth_of_the_budget_moves_no_leader_unasked(seed):
    world = world_of(seed)
    leader = world.leader().name
    other = world.members[leader].other
    view = world.leader().consensus.view
    for name in ("witness", other):
        restart_with(world, name, FAST_MS)
        world.run(0.3).until(world.protected).run(2.0)
    assert (world.leader().name, world.leader().consensus.view) == (leader, view)
    world.members[leader].call("switchover", lambda why_not: None)
    world.until(lambda: world.leader() and world.leader().name == other and world.protected())
    restart_with(world, leader, FAST_MS)
    world.run(0.3).until(world.protected).run(2.0)
    assert (world.leader().name, world.leader().consensus.view) == (other, view + 1)


@each_transport
@pytest.mark.parametrize("fast", [("witness", "secondary"), ("primary",)], ids=lambda names: "+".join(names))
def test_a_leader_that_dies_meanwhile_is_succeeded(seed, fast):
    world = world_of(seed)
    for name in fast:
        restart_with(world, name, FAST_MS)
        world.run(0.3).until(world.protected)
    leader = world.leader().name
    other = world.members[leader].other
    world.power_loss(leader)
    world.until(lambda: world.leader() and world.leader().name == other and world.leader().core.leading.serving, 2.0)
    world.power_on(leader)
    world.until(world.protected)


def test_some_seeds_have_uneven_budgets_with_and_without_one_sided_writes():
    rounds = [seed for seed in range(0, 10_000, len(CELLS)) if with_uneven_budgets(seed)]
    assert {with_one_sided(seed) for seed in rounds} == {True, False}
