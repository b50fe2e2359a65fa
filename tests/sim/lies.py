# SPDX-License-Identifier: GPL-3.0-or-later
"""A witness gone bad: it, or somebody with its secret, says what no witness can mean, or what an honest one might."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from plover.consensus.effects import LEADER
from plover.consensus.group import PAYLOAD
from plover.protocol import wire

if TYPE_CHECKING:
    from .member import Member
    from .world import World

FRESH_SHARE = 0.4  # of the detection time; half of what the rule goes by


def lying_witness(world: World, rng: random.Random, name: str) -> None:
    """It says so to both others: as a leader, as a replica, of views and indexes that nobody has reached. It also speaks of later
    views as a voter may: with that alone it must neither depose a leader nor change what a replica has promised."""
    for delay in sorted(rng.uniform(0.0, 0.5) for _lie in range(8)):
        world.loop.after(delay, None, _lie, world, rng, rng.choice(("primary", "secondary")))
    own = random.Random(f"lies {world.loop.now}")  # so that the other faults of a seed stay what they were
    for delay in sorted(own.uniform(0.0, 0.5) for _lie in range(40)):
        world.loop.after(delay, None, _speak_of_a_later_view, world, own, own.choice(("primary", "secondary")))


def _heard(world: World, to: str) -> Member | None:
    member = world.members[to]
    if member.dead or not world.hosts[to].on or ("witness", to, wire.CONTROL) not in world.network.connections:
        return None
    return member


def _speak_of_a_later_view(world: World, rng: random.Random, to: str) -> None:
    member = _heard(world, to)
    if member is None or member.holds:
        return
    cons = member.consensus
    view = cons.view + rng.choice((1, 1, 2, 1000))
    record = PAYLOAD.pack(cons.view, cons.record.version + rng.choice((1, 1000, 2**60)), rng.randrange(1, 4))
    lie = rng.choice(
        (
            wire.HeartbeatAck(view, 1, 0, 0, 0),
            wire.AppendAck(view, 0, False),
            wire.VoteReply(view, rng.random() < 0.5, False, False, 0, 0),
            wire.VoteReply(rng.choice((cons.view, view)), rng.random() < 0.5, False, False, 0, 0, record),
        )
    )
    promised, role, confirmed = (cons.view, cons.voted_for, cons.record), cons.role, _confirmed_lately(member)
    world.note("witness", f"LIES to {to}: {type(lie).__name__} of view {lie.view}")
    member.message("witness", wire.CONTROL, lie)
    if (cons.view, cons.voted_for, cons.record) != promised:
        world.ghost.fail(f"a word of the witness changed what {to} has promised, from {promised} to {cons.promises}")
    if role == LEADER and cons.role != LEADER and confirmed:
        world.ghost.fail(f"the witness alone deposed {to}, which the other replica had confirmed just now")


def _confirmed_lately(member: Member) -> bool:
    """As its leader, by the other replica."""
    cons, now = member.consensus, member.host.clock()
    detection_s = min(host.config.values["detection_ms"] / 1000 for host in member.world.hosts.values())
    return any(now - cons.followers.acknowledged_at[other] <= FRESH_SHARE * detection_s for other in cons.group.replicas)


def _lie(world: World, rng: random.Random, to: str) -> None:
    member = _heard(world, to)
    if member is None:
        return
    view = member.consensus.view + rng.choice((0, 1, 2**40, 2**64 - 1))
    leaps = member.consensus.view + 2**40
    record = view, rng.choice((1, 2**64 - 1)), rng.randrange(8)
    lie = rng.choice(
        (
            wire.Heartbeat(view, 1, 0, *record),
            wire.ProposeRecord(view, *record),
            wire.Append(view, 0, 0, True),
            wire.VoteRequest(member.consensus.view + 1, False, True, *record, 2**62, 2**62),
            wire.VoteReply(leaps, True, False, False, 0, 0),
            wire.HeartbeatAck(leaps, 1, 0, 0, 0),
            wire.HeartbeatAck(member.consensus.view, 2**40, 0, 0, 0),
            wire.AppendAck(leaps, 0, False),
            wire.AppendAck(member.consensus.view, 2**40, True),
            wire.Leave(member.consensus.view, b"gone"),
            wire.JoinRequest(member.consensus.view, b"{}"),
            wire.TransferLeadership(member.consensus.view),
        )
    )
    world.note("witness", f"LIES to {to}: {type(lie).__name__} of view {lie.view}")
    member.message("witness", wire.CONTROL, lie)
