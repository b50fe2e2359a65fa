# SPDX-License-Identifier: GPL-3.0-or-later
"""Lets the output of a leader's VM go, in two cases only (docs/ARCHITECTURE.md, invariant 2). Sans-I/O.

* a syncvm that covers it is staged on the secondary and acknowledged in our view, or
* the recorded in-sync set is {leader}, and a quorum acknowledged our view after the output was produced.
"""

from __future__ import annotations

from typing import Protocol

from ..ports import effects
from .director_port import DirectorPort
from .guard import Guard

TRIES_MAX = 3  # to be told in time that we still lead


class Speaker(Protocol):
    """What output commit asks of the leader that it belongs to."""

    @property
    def serving(self) -> bool: ...

    @property
    def held_for_syncvm(self) -> bool:
        """The first case counts, not the second."""


class OutputCommit:
    def __init__(self, core: DirectorPort, leader: Speaker, guard: Guard) -> None:
        self._core, self._cons, self._leader, self._guard = core, core.consensus, leader, guard
        self._sync_mark = 0  # of the guard: what the syncvm that is under way covers
        self._confirm: tuple[int, int, int] | None = None  # mark, sequence number that confirms it, tries left

    def hold(self, frames: bytes) -> None:
        self._guard.hold(frames, self._core.now)
        self.release_confirmed()

    def syncvm_stopped(self) -> None:
        """All output from before its stop is here."""
        self._sync_mark = self._guard.mark()

    def syncvm_staged(self) -> None:
        """The first case."""
        self._release(self._sync_mark, TRIES_MAX)

    def release_confirmed(self) -> None:
        """The second case: ask a quorum whether the view is still ours; once it says so, let go what was here when we asked."""
        if self._confirm and self._leader.serving and self._cons.confirmed_seq >= self._confirm[1]:
            mark, _seq, tries = self._confirm
            self._release(mark, tries)
        if self._guard.unmarked_bytes and not self._confirm and self._leader.serving and not self._leader.held_for_syncvm:
            self._ask_quorum(self._guard.mark(), TRIES_MAX)

    @property
    def asks_quorum(self) -> bool:
        """Some output only waits for a quorum's word that the view is ours."""
        return self._confirm is not None

    def start_over(self) -> None:
        """Neither case will come as it was awaited. The output stays held."""
        self._guard.unmark()
        self._confirm = None

    def _ask_quorum(self, mark: int, tries: int) -> None:
        self._confirm = (mark, self._cons.confirm(self._core.now), tries)

    def _release(self, mark: int, tries: int) -> None:
        """Let out what ``mark`` covers, which is safe by now; but if we were hung, see first whether we still lead.

        An answer can lie in a socket while another leads: what it covers is not lost then, but two would speak for one
        MAC address. Each try is a round trip; the last one counts however long it took.
        """
        if tries and not self._cons.fresh(self._core.now):
            return self._ask_quorum(mark, tries - 1)
        self._confirm = None
        self._core.emit(effects.Emit(self._guard.release(mark)))
