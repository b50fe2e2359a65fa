# SPDX-License-Identifier: GPL-3.0-or-later
"""Calls the method that core/routes.py names for an answer or a message. Sans-I/O."""

from __future__ import annotations

from typing import Any

from ..errors import InvariantViolation, WireError
from ..ports import effects
from ..protocol import wire
from . import routes
from .follower import Follower
from .leader import Leader
from .transitions import Transitions

WORK = (routes.LEADER_SYNCVM, routes.LEADER_FILL, routes.SECONDARY_SYNCVM, routes.SECONDARY_FILL, routes.FINISHING)
ANSWERS = frozenset().union(routes.LEADER, routes.SECONDARY, *WORK)


class Router:
    def __init__(self, transitions: Transitions) -> None:
        self._roles, self._core = transitions, transitions.core
        self._cons = self._core.consensus

    # ---- answers ---------------------------------------------------------------------------------------
    def answer(self, event: str, *said: Any) -> None:
        """Ignored if the role has no use for it, or if the work that asked for it was given up."""
        role = self._roles.role
        own = routes.LEADER if isinstance(role, Leader) else routes.SECONDARY
        if event in own:
            own[event](self._roles, role, *said)
        elif any(event in table for table in WORK):
            self._to_work(event, *said)
        elif event not in ANSWERS:
            raise InvariantViolation(f"core/routes.py knows no answer {event!r}")

    def _to_work(self, event: str, tag: effects.Tag, *said: Any) -> None:
        for work, table in self._under_way():
            if work is not None and work.tag == tag:
                if event in table:
                    table[event](self._roles, self._roles.role, work, *said)
                return
        if event == "vm_stopped":
            self._stopped_for_nobody(tag)

    def _under_way(self) -> tuple[tuple[Any, dict[str, routes.WorkHandler]], ...]:
        role = self._roles.role
        if isinstance(role, Follower):
            return (role.syncvm, routes.SECONDARY_SYNCVM), (role.fill, routes.SECONDARY_FILL)
        return (role.syncvm, routes.LEADER_SYNCVM), (role.fill, routes.LEADER_FILL), (role.finishing, routes.FINISHING)

    def _stopped_for_nobody(self, tag: effects.Tag) -> None:
        """The work that asked for the stop was given up in the meantime: let the VM run.

        Not if a later stop was asked for: this ContVm would come after that stop, and memory would be copied while the VM
        runs.
        """
        leader = self._roles.leading
        if leader and leader.active and not (leader.own.lost or leader.power.off) and self._core.stopped_for == tag:
            self._core.emit(effects.ContVm())

    # ---- messages --------------------------------------------------------------------------------------
    def control(self, src: str, m: wire.Message) -> None:
        """A message on the control channel."""
        self._cons.check_sender(src, m)
        kind, role = type(m), self._roles.role
        if kind in routes.TO_LEADER:
            if self._roles.leading and getattr(m, "view", None) == self._cons.view:
                routes.TO_LEADER[kind](self._roles, role, src, m)
        elif kind in routes.TO_SECONDARY:
            if isinstance(role, Follower):
                routes.TO_SECONDARY[kind](self._roles, role, src, m)
        elif isinstance(m, wire.TransferLeadership):
            self._roles.asked_to_lead(src, m)
        else:
            self._cons.receive(self._core.now, src, m)

    def data(self, m: Any) -> None:
        """A message on the data channel. One of another view, syncvm or initial sync is late, and ignored."""
        role, leader = self._roles.role, self._roles.leading
        if m.view != self._cons.view and not self._early(m):
            return
        if leader:
            self._data_to_leader(leader, m)
        elif isinstance(role, Follower) and not isinstance(m, wire.LateInput):
            self._handler(routes.TO_SECONDARY_DATA, m, "a secondary")(self._roles, role, m)

    def _early(self, m: wire.Message) -> bool:
        """A new leader's first bitmap may overtake the news of its election: the two channels are not ordered."""
        role = self._roles.role
        return isinstance(m, wire.Bitmap) and m.view > self._cons.view and isinstance(role, Follower) and role.filled

    def _data_to_leader(self, leader: Leader, m: Any) -> None:
        if type(m) in routes.TO_LEADER_DATA:
            routes.TO_LEADER_DATA[type(m)](self._roles, leader, m)
        elif type(m) in routes.TO_LEADER_FILL:
            if leader.fill and m.join == leader.fill.join:
                routes.TO_LEADER_FILL[type(m)](self._roles, leader, leader.fill, m)
        else:
            handler = self._handler(routes.TO_LEADER_SYNCVM, m, "a leader")
            if leader.syncvm and m.number == leader.syncvm.number:
                handler(self._roles, leader, leader.syncvm, m)

    @staticmethod
    def _handler(table: dict[type[wire.Message], routes.RoleHandler], m: wire.Message, to: str) -> routes.RoleHandler:
        if type(m) not in table:
            raise WireError(f"{type(m).__name__} sent to {to}")
        return table[type(m)]

    def writable(self) -> None:
        """The data channel has room for more of the leader's messages."""
        leader = self._roles.leading
        if leader and leader.fill:
            routes.FILL_WRITABLE(self._roles, leader, leader.fill)
        elif leader and leader.syncvm:
            routes.SYNCVM_WRITABLE(self._roles, leader, leader.syncvm)
