# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks each message against its sender and our own view, before anything acts on it. Pure.

A member gone bad, or somebody with its secret, can send any message. The consensus tolerates members that stop, not members
that lie (SECURITY.md says what a liar can still do). But a lie that contradicts the sender's role, or that no member can tell
in our view, is refused: it costs its sender the link, and nobody else anything.
"""

from __future__ import annotations

from ..errors import WireError
from ..protocol import wire
from .amnesia import is_question
from .group import COUNT_MAX, Group

ERA = 1_000_000  # views between two forced ones; see Consensus.force_lead
LEAP_VIEWS_MAX = 100 * ERA  # more than a member misses while it is away: thirty-three forced failovers

# A leader says these; only a replica leads.
OF_LEADERS = (wire.Heartbeat, wire.Append, wire.ProposeRecord)
OF_REPLICAS = (*OF_LEADERS, wire.RingAccept, wire.TransferLeadership, wire.Leave, wire.JoinRequest, wire.JoinRefused)
COUNTERS: dict[type[wire.Message], tuple[str, ...]] = {
    wire.Heartbeat: ("seq", "truncate", "record_view", "record_version"),
    wire.HeartbeatAck: ("seq", "last_index", "record_view", "record_version"),
    wire.ProposeRecord: ("record_view", "record_version"),
    wire.Append: ("prev_index", "prev_view"),
    wire.AppendAck: ("last_index",),
    wire.VoteRequest: ("record_view", "record_version", "last_view", "last_index"),
    wire.VoteReply: ("from_index", "from_view"),
}


def check(group: Group, view: int, leader: str | None, forgot: bool, src: str, m: wire.Message) -> None:
    """``view``, ``leader``: our own view and its leader, if we know it. ``forgot``: we have forgotten our view. Raises WireError
    if ``src`` cannot mean ``m``."""
    kind = type(m).__name__
    if src not in group.others:
        raise WireError(f"message from unknown member {src!r}")
    if not group.is_replica(src) and (isinstance(m, OF_REPLICAS) or (isinstance(m, wire.VoteRequest) and not is_question(m))):
        raise WireError(f"{kind} from the witness, which neither leads nor holds the VM")
    told = getattr(m, "view", 0)
    if told > (COUNT_MAX if forgot else min(COUNT_MAX, view + LEAP_VIEWS_MAX)):
        raise WireError(f"{kind} of view {told}; ours is {view}, and views do not leap so far")
    for name in COUNTERS.get(type(m), ()):
        if getattr(m, name) > COUNT_MAX:
            raise WireError(f"{kind} with {name} {getattr(m, name)}")
    if isinstance(m, OF_LEADERS) and told == view and leader not in (None, src):
        raise WireError(f"{kind} of view {view}, which {leader} leads")
