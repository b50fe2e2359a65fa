# SPDX-License-Identifier: GPL-3.0-or-later
"""Input on its way into the leader's log: group commit. Sans-I/O.

An entry costs the same whether it holds one frame or sixty. So while entries are on their way to the other members, frames wait
in the TAP, and the next entry takes them all. A client that waits for its answer before it asks again finds nothing on its way,
and does not wait here.
"""

from __future__ import annotations

from typing import Protocol

from ..consensus.log import INPUT
from .director_port import DirectorPort

# Frames wait no longer for entries that nobody acknowledges; looked at with each event and each tick. A TAP keeps 1000 frames: those
# of 10 ms at 1 Gbit/s, if they are of 1500 bytes.
WAIT_S_MAX = 0.002


class Receiver(Protocol):
    """What input asks of its leader."""

    @property
    def serving(self) -> bool: ...

    @property
    def active(self) -> bool:
        """This leader has not ended."""

    def advance(self) -> None:
        """Feed the VM what is committed."""


class Incoming:
    def __init__(self, core: DirectorPort, leader: Receiver) -> None:
        self._core, self._cons, self._leader = core, core.consensus, leader
        self._ordered_at = float("-inf")  # when the last frames went into the log

    @property
    def _room(self) -> bool:
        return bool(self._cons.log.bytes < self._core.config.log_bytes_max)

    @property
    def _open(self) -> bool:
        return self._leader.serving and self._room and not self._cons.deaf(self._core.now)

    @property
    def _gathers(self) -> bool:
        on_their_way = self._cons.commit_index < self._cons.log.last_index
        return on_their_way and self._core.now - self._ordered_at < WAIT_S_MAX

    @property
    def reads(self) -> bool:
        """The shell is to read frames from the TAP. Else they wait there, as on a full wire."""
        return not self._gathers and self._open

    def take(self, payload: bytes) -> None:
        """Frames from the TAP."""
        if self._open:
            self._order(payload)

    def take_late(self, payload: bytes) -> None:
        """Frames that the old leader passes on. They may come before we serve, and are fed once we do."""
        if self._leader.active and self._room:
            self._order(payload)

    def _order(self, payload: bytes) -> None:
        self._ordered_at = self._core.now
        self._cons.propose(INPUT, payload)
        self._leader.advance()  # if we lead alone by force, the entry is committed already
