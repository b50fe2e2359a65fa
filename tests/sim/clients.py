# SPDX-License-Identifier: GPL-3.0-or-later
"""Clients of the VM: closed loop, one operation at a time, sent again until answered, as TCP does; given up after a while.

A given-up operation is unknown, and the client goes on with a new connection.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from lab.linearizable import CAS, READ, UNKNOWN, WRITE, Op

from . import guest
from .speech import STAMP_SHIFT, Heard

if TYPE_CHECKING:
    from .world import World

KINDS = {READ: guest.READ, WRITE: guest.WRITE, CAS: guest.CAS}
RETRANSMIT_S, GIVE_UP_S = 0.05, 1.2


class Client:
    def __init__(self, world: World, number: int) -> None:
        self.world, self.number = world, number
        self.rng = random.Random(world.rng.getrandbits(64))
        self.connection: int | None = None
        self.operation = 0
        self.last_seen = [0] * guest.KEYS  # what a cas expects: the value this client saw last
        self.pending: Op | None = None
        self.history: list[Op] = []
        self.answered = 0
        world.loop.after(self.rng.random() * 0.02, None, self.begin)

    def begin(self) -> None:
        if self.world.clients_end:
            return
        if self.connection is None:
            self.connection, self.operation = self.world.new_connection(), 0
            if self.connection is None:
                return  # the guest has no more room: this client has seen enough
        self.operation += 1
        key, roll = self.rng.randrange(guest.KEYS), self.rng.random()
        kind = READ if roll < 0.35 else WRITE if roll < 0.75 else CAS
        value = self.world.new_value() if kind != READ else None
        expected = self.last_seen[key] if kind == CAS else None
        self.pending = Op(self.number, f"k{key}", kind, self.world.loop.now, UNKNOWN, value, expected)
        frame = guest.REQUEST.pack(self.connection, self.operation, KINDS[kind], key, value or 0, expected or 0)
        self._send(frame, self.connection, self.operation, RETRANSMIT_S)
        self.world.loop.after(GIVE_UP_S, None, self._give_up, self.connection, self.operation)

    def _waits_for(self, connection: int, operation: int) -> bool:
        return self.pending is not None and (connection, operation) == (self.connection, self.operation)

    def _send(self, frame: bytes, connection: int, operation: int, again_s: float) -> None:
        if self._waits_for(connection, operation):
            self.world.to_vm(frame)
            self.world.loop.after(again_s, None, self._send, frame, connection, operation, min(2 * again_s, 0.4))

    def _give_up(self, connection: int, operation: int) -> None:
        if self._waits_for(connection, operation):
            self.history.append(self.pending)
            self.pending = self.connection = None
            self.begin()

    def closed(self, connection: int) -> None:
        """The VM closes the connection. Whether it has done the operation under way is unknown."""
        if connection == self.connection:
            pending, self.pending, self.connection = self.pending, None, None
            self.world.ghost.closed.add(connection)
            if pending:
                self.history.append(pending)
                self.begin()

    def answer(self, heard: Heard) -> None:
        if not self._waits_for(heard.connection, heard.operation):
            return
        op, self.pending = self.pending, None
        value = heard.value % (1 << STAMP_SHIFT)
        result = {READ: value, WRITE: None, CAS: heard.hit}[op.kind]
        self.history.append(op._replace(end=self.world.loop.now, result=result))
        if op.kind == READ or heard.hit:
            self.last_seen[int(op.key[1:])] = value
        self.answered += 1
        self.world.ghost.acked[heard.connection] = heard
        self.world.loop.after(self.rng.expovariate(1 / 0.012), None, self.begin)
