# SPDX-License-Identifier: GPL-3.0-or-later
"""Releases the output of a leader's VM, in three cases only (docs/ARCHITECTURE.md, invariant 2). Sans-I/O.

* a syncvm that covers it is staged on the secondary and acknowledged in our view, or
* the secondary's VM, running on from the last syncvm of our view, has said the same (core/agreement.py), or
* the recorded in-sync set is {leader}, and a quorum acknowledged our view after the output was produced.

What is released is safe for good. It leaves slice by slice (core/outbox.py), each while the TAP is up and we know that we lead.
"""

from __future__ import annotations

from typing import Protocol

from ..ports import effects
from ..protocol import wire
from ..syncvm.pace import Pace
from .agreed_output import AgreedOutput
from .director_port import DirectorPort
from .guard import Guard
from .outbox import Outbox

TRIES_MAX = 3  # to learn in time that we still lead


class Speaker(Protocol):
    """What output commit asks of its leader."""

    @property
    def serving(self) -> bool: ...

    @property
    def protected(self) -> bool:
        """The secondary is in sync."""

    @property
    def held_for_syncvm(self) -> bool:
        """True while only the first two cases apply."""


class OutputCommit:
    def __init__(self, core: DirectorPort, leader: Speaker, guard: Guard) -> None:
        self._core, self._cons, self._leader, self._guard = core, core.consensus, leader, guard
        self.outbox = Outbox()
        self.agreed = AgreedOutput(core.config, guard, core.comparison.agreement())
        self._way_open = False  # the TAP is up: what is sent now is not lost on this host
        self._sync_mark = 0  # the guard's mark for the syncvm under way
        self._confirm: tuple[int, int] | None = None  # mark, sequence number that confirms it
        self._question: tuple[int, int] | None = None  # do we still lead? sequence number that answers it, tries left

    def hold(self, frames: bytes) -> None:
        self.agreed.hold(frames, self._core.now, beside_bytes=self.outbox.bytes)
        self._release_agreed()
        self.release_confirmed()

    def syncvm_stopped(self, number: int) -> None:
        """All output from before the stop is held by now."""
        self._core.emit(*self.agreed.begin(self._cons.view, number))
        self._sync_mark = self._guard.mark()

    def syncvm_staged(self) -> None:
        """The first case."""
        self._release(self._sync_mark)
        self.agreed.staged()

    def heard(self, m: wire.Said) -> None:
        """The second case: what the secondary's VM has said. Raises WireError."""
        self.agreed.heard(m)
        self._release_agreed()

    def _release_agreed(self) -> None:
        if self._leader.serving and self._leader.protected:
            self.outbox.put(self.agreed.leaving(self._cons.view, self._core.now))
            self._send()

    def makes_due(self, pace: Pace, idle: bool) -> bool:
        """Does held output make a syncvm due? ``idle``: our VM is idle at this moment."""
        return self.agreed.makes_due(self._core.now, pace, idle)

    def release_confirmed(self) -> None:
        """The third case: ask a quorum whether the view is still ours. Once it agrees, release the output held when we asked."""
        if self._confirm and self._leader.serving and self._cons.confirmed_seq >= self._confirm[1]:
            self._release(self._confirm[0])
        if self._guard.unmarked_bytes and not self._confirm and self._leader.serving and not self._leader.held_for_syncvm:
            self._ask_quorum(self._guard.mark())
        self._send()

    @property
    def pending(self) -> bool:
        """Some output needs no syncvm any more, and has not left yet."""
        return self._confirm is not None or bool(self.outbox.bytes)

    def start_over(self) -> None:
        """The conditions that were awaited will not be met. The output stays held."""
        self._guard.unmark()
        self.agreed.void()
        self._confirm = self._question = None

    def open_way(self) -> None:
        """The TAP is up."""
        self._way_open = True
        self._send()

    def close_way(self) -> None:
        """Another view began. Everything stays here; if we are elected again, it goes on."""
        self._way_open = False
        self.start_over()

    def left(self, number: int, rest: list[bytes]) -> None:
        """Slice ``number`` has left, but for ``rest``."""
        self.outbox.left(number, rest)
        self._send()

    def _ask_quorum(self, mark: int) -> None:
        self._confirm = (mark, self._cons.confirm(self._core.now))

    def _release(self, mark: int) -> None:
        """The output that ``mark`` covers is safe, and all that was held before it, whatever that still waits for."""
        if self._confirm and self._confirm[0] <= mark:
            self._confirm = None
        self.outbox.put(self._guard.release(mark))
        self._send()

    def _send(self) -> None:
        if self.outbox.waits and self._way_open and self._leader.serving and self._knows_to_lead():
            self._core.emit(effects.Emit(*self.outbox.slice()))

    def _knows_to_lead(self) -> bool:
        """If we were hung, or our slices took long, first check that we still lead.

        The answer to a syncvm may have waited in a socket while another member became leader. The output it covers is not lost
        then, but two hosts would speak for one MAC address. Each try is a round trip; the last one counts however long it took.
        """
        if self._cons.fresh(self._core.now):
            self._question = None
        elif self._question is None:
            self._ask_whether_we_lead(TRIES_MAX - 1)
        elif self._cons.confirmed_seq >= self._question[0]:
            tries, self._question = self._question[1], None
            if tries:
                self._ask_whether_we_lead(tries - 1)
        return self._question is None

    def _ask_whether_we_lead(self, tries: int) -> None:
        self._question = (self._cons.confirm(self._core.now), tries)
