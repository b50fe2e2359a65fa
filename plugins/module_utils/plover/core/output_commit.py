# SPDX-License-Identifier: GPL-3.0-or-later
"""Releases the output of a leader's VM, in two cases only (docs/ARCHITECTURE.md, invariant 2). Sans-I/O.

* a syncvm that covers it is staged on the secondary and acknowledged in our view, or
* the recorded in-sync set is {leader}, and a quorum acknowledged our view after the output was produced.
"""

from __future__ import annotations

from typing import Protocol

from ..ports import effects
from .director_port import DirectorPort
from .guard import Guard

TRIES_MAX = 3  # to learn in time that we still lead


class Speaker(Protocol):
    """What output commit asks of its leader."""

    @property
    def serving(self) -> bool: ...

    @property
    def held_for_syncvm(self) -> bool:
        """True while only the first case applies."""


class OutputCommit:
    def __init__(self, core: DirectorPort, leader: Speaker, guard: Guard) -> None:
        self._core, self._cons, self._leader, self._guard = core, core.consensus, leader, guard
        self._sync_mark = 0  # the guard's mark for the syncvm under way
        self._confirm: tuple[int, int, int] | None = None  # mark, sequence number that confirms it, tries left

    def hold(self, frames: bytes) -> None:
        self._guard.hold(frames, self._core.now)
        self.release_confirmed()

    def syncvm_stopped(self) -> None:
        """All output from before the stop is held by now."""
        self._sync_mark = self._guard.mark()

    def syncvm_staged(self) -> None:
        """The first case."""
        self._release(self._sync_mark, TRIES_MAX)

    def release_confirmed(self) -> None:
        """The second case: ask a quorum whether the view is still ours. Once it agrees, release the output held when we asked."""
        if self._confirm and self._leader.serving and self._cons.confirmed_seq >= self._confirm[1]:
            mark, _seq, tries = self._confirm
            self._release(mark, tries)
        if self._guard.unmarked_bytes and not self._confirm and self._leader.serving and not self._leader.held_for_syncvm:
            self._ask_quorum(self._guard.mark(), TRIES_MAX)

    @property
    def asks_quorum(self) -> bool:
        """Some output waits only for a quorum's word that the view is ours."""
        return self._confirm is not None

    def start_over(self) -> None:
        """The conditions that were awaited will not be met. The output stays held."""
        self._guard.unmark()
        self._confirm = None

    def _ask_quorum(self, mark: int, tries: int) -> None:
        self._confirm = (mark, self._cons.confirm(self._core.now), tries)

    def _release(self, mark: int, tries: int) -> None:
        """Release the output that ``mark`` covers: it is safe by now. But if we were hung, first check that we still lead.

        The answer may have waited in a socket while another member became leader. The output it covers is not lost then,
        but two hosts would speak for one MAC address. Each try is a round trip; the last one counts however long it took.
        """
        if tries and not self._cons.fresh(self._core.now):
            return self._ask_quorum(mark, tries - 1)
        self._confirm = None
        self._core.emit(effects.Emit(self._guard.release(mark)))
