# SPDX-License-Identifier: GPL-3.0-or-later
"""A witness gone bad: it, or somebody with its secret, says what no witness can mean."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from plover.protocol import wire

if TYPE_CHECKING:
    from .world import World


def lying_witness(world: World, rng: random.Random, name: str) -> None:
    """It says so to both others: as a leader, as a replica, of views and indexes that nobody has reached."""
    for delay in sorted(rng.uniform(0.0, 0.5) for _lie in range(8)):
        world.loop.after(delay, None, _lie, world, rng, rng.choice(("primary", "secondary")))


def _lie(world: World, rng: random.Random, to: str) -> None:
    member = world.members[to]
    if member.dead or not world.hosts[to].on or ("witness", to, wire.CONTROL) not in world.network.connections:
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
