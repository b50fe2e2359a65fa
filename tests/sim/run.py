# SPDX-License-Identifier: GPL-3.0-or-later
"""One seed from start to end: faults while clients work, then quiet, and the group must be protected again."""

from __future__ import annotations

import traceback
from typing import NamedTuple

from plover.core.disk_marks import why_torn
from plover.core.leader import Leader

from .faults import clear
from .ghost import Violation
from .plan import Plan
from .replica import ReplicaMember
from .world import World

FAULTS_S_MAX = 6.0
TAIL_S_MAX = 1.6  # for the restarts and heals of the last faults, before everything is mended by hand
RECOVERY_S_MAX = 12.0
SCRUB_S_MAX = 5.0  # with scrub_interval_s of 1, and syncvms at least every second
CALM_S = 0.4  # after this time without a leader, the operator looks for a host that still holds the state


class Result(NamedTuple):
    seed: int
    violation: str | None
    injected: tuple[tuple[str, str, str], ...]
    steps: int
    answered: int


def run(seed: int, trace: list[str] | None = None, world_class: type[World] = World) -> Result:
    world = world_class(seed, trace)
    plan = Plan(world, seed)
    violation = None
    try:
        _with_faults(world, plan)
        _recover(world)
        _scrubbed(world)
        world.clients_end = True
        world.check_history()
    except Violation as error:
        violation = f"{error} (at {world.loop.now:.4f} s)"
    except Exception as error:  # any exception that leaves the core is a bug as well; the seed replays it
        violation = f"{type(error).__name__}: {error} (at {world.loop.now:.4f} s)"
        if trace is not None:
            trace.append(traceback.format_exc())
    return Result(seed, violation, tuple(plan.injected), world.loop.steps, sum(c.answered for c in world.clients))


def _with_faults(world: World, plan: Plan) -> None:
    loop = world.loop
    while not plan.done and loop.now < FAULTS_S_MAX:
        loop.step()
        plan.step()
    end = loop.now + TAIL_S_MAX * plan.rng.random()
    while loop.now < end:
        loop.step()
    world.note("FAULT", "no more faults; all is mended")
    clear(world)


def _recover(world: World) -> None:
    """Liveness: protected, and every client answered, within RECOVERY_S_MAX."""
    answered = [c.answered for c in world.clients]
    end = world.loop.now + RECOVERY_S_MAX
    while world.loop.now < end:
        if world.run_until(lambda: world.settled(answered), CALM_S):
            return
        if world.leader() is None and _state_lost(world):
            _cold_start(world)
        if world.leader() is None:
            _force_past_amnesia(world)
    states = {m.name: m.core.status()["sentence"] if m.core else m.consensus.record for m in world.members.values()}
    raise Violation(f"not protected {RECOVERY_S_MAX:.0f} s after the last fault: {states}")


def _scrubbed(world: World) -> None:
    """A page that differs though nobody has reported a write is found by a round of the scrub."""
    if world.strays and not world.run_until(world.quiet_page_equal, SCRUB_S_MAX):
        raise Violation(f"a page that differs between the hosts was not found in {SCRUB_S_MAX:.0f} s")


def _state_lost(world: World) -> bool:
    """No host that may lead by the newest record holds the VM's state any more."""
    newest = max((m.consensus.record for m in world.members.values()), key=lambda record: record.order)
    return not any(m.core and m.core.holds_state and m.vm is not None and m.name in newest.in_sync for m in world.members.values())


def _force_past_amnesia(world: World) -> None:
    """What an operator does when the replica that could lead has forgotten what it promised: `failover --force`, there if it
    still holds the VM, else on the other one, from what that has or afresh."""
    lost = _state_lost(world)
    replicas = [m for m in world.members.values() if m.core]
    if any(m.consensus.amnesia for m in replicas):
        if lost:
            _cold_start(world, forced=True)
        for member in replicas:
            forgetful = member.consensus.amnesia is not None
            if (forgetful and member.core.holds_state) or (not forgetful and lost):
                world.force(member.name)


def _cold_start(world: World, forced: bool = False) -> None:
    """What an operator does when both replicas have lost the VM: boot it afresh, where the last state was. If that host
    refuses, as its disk is torn, by force where a disk is whole; if none is, where the newest was."""
    asked = False
    lost = [m for m in world.members.values() if m.core and not isinstance(m.core.role, Leader) and not m.core.holds_state]
    for member in lost:
        if not member.core.cold:
            world.note(member.name, f"operator: cold-start{' --force' if forced else ''}")
            world.ghost.forgotten = True
            world.check_history()  # up to here nothing may have been lost
            for client in world.clients:
                client.history.clear()
            if forced:
                world.torn_accepted.add(member.name)
            member.call("cold_start", forced)
            asked = asked or member.core.cold
    if not asked and any(why_torn(m.core.marks) for m in lost):
        _force_cold_start(world, lost)


def _force_cold_start(world: World, lost: list[ReplicaMember]) -> None:
    lost = [m for m in lost if not m.consensus.amnesia] or lost
    whole = [m for m in lost if not why_torn(m.core.marks)]
    member = max(whole or lost, key=lambda m: m.core.marks[0].view)
    if member.core.cold:
        return world.force(member.name)
    world.note(member.name, "operator: cold-start --force")
    world.torn_accepted.add(member.name)
    member.call("cold_start", True)
