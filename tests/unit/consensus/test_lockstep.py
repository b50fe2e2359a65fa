# SPDX-License-Identifier: GPL-3.0-or-later
"""Two replicas that stand for election in the same moment, again and again, while the witness does not vote."""

from __future__ import annotations

from plover.config.timing import Timing
from plover.consensus.consensus import Consensus
from plover.consensus.durable import Durable, Record
from plover.consensus.effects import LEADER, Send

KINDS = {"primary": "replica", "secondary": "replica", "witness": "witness"}
BOTH = Durable(1, None, Record(1, 2, frozenset({"primary", "secondary"})))
TICK_S = 0.005


def test_one_of_two_replicas_that_stand_in_step_is_elected_without_the_witness():
    members = {name: Consensus(name, KINDS, BOTH, Timing(0.1, 0.02), 0.0) for name in ("primary", "secondary")}
    for member in members.values():
        member.eligible = True
    on_their_way: list[tuple[str, Send]] = []
    for step in range(1, 1000):
        now = step * TICK_S
        arriving, on_their_way = on_their_way, []
        for member in members.values():
            member.tick(now)
        for src, sent in arriving:
            if sent.to in members:
                members[sent.to].receive(now, src, sent.message)
        for name, member in members.items():
            on_their_way += [(name, item) for item in member.take() if isinstance(item, Send)]
        if any(member.role == LEADER for member in members.values()):
            return
    raise AssertionError(f"nobody leads after {now:.1f} s, in view {members['primary'].view}")
