# SPDX-License-Identifier: GPL-3.0-or-later
"""Input on its way into the leader's log: group commit. Sans-I/O.

An entry costs the same whether it holds one frame or sixty. So while entries are on their way to the other members, frames
gather here, and the next entry takes them all. A client that waits for its answer before it asks again finds nothing on its
way, and does not wait here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..consensus.log import INPUT
from .director_port import DirectorPort

if TYPE_CHECKING:
    from .leader import Leader

GATHERED_BYTES_MAX = 64 << 10  # more go into the log at once
GATHERED_S_MAX = 0.002  # then they follow though nothing is acknowledged; looked at with each frame and each tick


class Incoming:
    def __init__(self, core: DirectorPort, leader: Leader) -> None:
        self._core, self._cons, self._leader = core, core.consensus, leader
        self._frames: list[bytes] = []
        self._bytes = 0
        self._since = 0.0  # when the first of them came

    @property
    def accepts(self) -> bool:
        """Frames are read from the TAP. Else they wait in it, as on a full wire."""
        room = self._cons.log.bytes + self._bytes < self._core.config.log_bytes_max
        return self._leader.serving and room and not self._cons.deaf(self._core.now)

    def take(self, payload: bytes) -> None:
        """Frames from the TAP."""
        if self.accepts:
            self._gather(payload)

    def take_late(self, payload: bytes) -> None:
        """Frames that the old leader passes on. They may come before we serve, and are fed once we do."""
        if self._leader.active and self._cons.log.bytes < self._core.config.log_bytes_max:
            self._gather(payload)

    def _gather(self, payload: bytes) -> None:
        if not self._frames:
            self._since = self._core.now
        self._frames.append(payload)
        self._bytes += len(payload)
        self.go_on()
        self._leader.advance()  # if we lead alone by force, the entry is committed already

    def go_on(self) -> None:
        """Put what has gathered into the log, unless it may wait for company."""
        if self._frames and not self._waits:
            self.order()

    @property
    def _waits(self) -> bool:
        on_their_way = self._cons.commit_index < self._cons.log.last_index
        few = self._bytes < GATHERED_BYTES_MAX and self._core.now - self._since < GATHERED_S_MAX
        return on_their_way and few and not self._leader.switchover.under_way

    def order(self) -> None:
        """Put it into the log now."""
        if self._frames:
            self._cons.propose(INPUT, b"".join(self._frames))
            self.forget()

    def forget(self) -> None:
        """Another view began: this input was never ordered. Its clients send it again."""
        self._frames, self._bytes = [], 0
