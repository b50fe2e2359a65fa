# SPDX-License-Identifier: GPL-3.0-or-later
"""Compares memory that nobody has reported as written: a fault of the dirty tracking must not stay unseen. Pure.

Each syncvm compares, beside the dirty pages, the next pages of all memory: as many as are due for one round in
``scrub_interval_s``, but at most SLICE_PAGES_MAX, so that the VM stands still no longer than a millisecond or so for it. A page
that differs is *untracked*: the syncvm mends it like any other, but until then a failover would have gone on from a stale page.
So it is counted and reported, the next round goes as fast as it may, and the service's word has a "but" until an audit, which
compares all memory, finds none.

An initial sync ends with a comparison of all memory, so a round begins with it.
"""

from __future__ import annotations

from typing import Any

from ..syncvm.figures import NOTHING, Figures

SLICE_PAGES_MAX = 4096  # hashed in 1.2 ms by one thread


class Scrub:
    def __init__(self, pages: int, interval_s: float) -> None:
        """``pages`` of memory; ``interval_s``: of one round, 0 for never."""
        self._pages, self._interval_s = pages, interval_s
        self._next = 0
        self._paid_until = self._round_began = 0.0  # the slices so far are what was due at that time
        self._hurry_pages = 0  # to compare as fast as it goes, as an untracked page was found
        self.pages = self.rounds = self.untracked_pages = 0  # since this daemon began
        self.round_s: float | None = None  # how long the last round took
        self.doubt_pages = 0  # untracked ones since the last audit without any

    def begin(self, now: float) -> None:
        """All memory has just been compared."""
        self._next, self._paid_until, self._round_began = 0, now, now

    def next(self, now: float) -> range:
        """The pages that a syncvm which begins now compares."""
        if not self._interval_s:
            return NOTHING
        due = SLICE_PAGES_MAX if self._hurry_pages else int(self._pages * (now - self._paid_until) / self._interval_s)
        return range(self._next, min(self._next + max(0, min(due, SLICE_PAGES_MAX)), self._pages))

    def compared(self, figures: Figures, now: float) -> str:
        """A syncvm of ours has ended. Returns a sentence if it has found untracked pages."""
        done = len(figures.scrubbed)
        if figures.audit:
            self.begin(now)
            if not figures.untracked:
                self.doubt_pages = self._hurry_pages = 0
        elif done:
            self._step(figures.scrubbed, now)
        self.pages += done
        self._hurry_pages = max(0, self._hurry_pages - done)
        if not figures.untracked:
            return ""
        self.untracked_pages += figures.untracked
        self.doubt_pages += figures.untracked
        self._hurry_pages = self._pages
        return self._found(figures)

    def _step(self, scrubbed: range, now: float) -> None:
        page_s = self._interval_s / self._pages
        paid_until = self._paid_until + len(scrubbed) * page_s
        self._paid_until = min(max(paid_until, now - SLICE_PAGES_MAX * page_s), now)  # at most one slice is owed
        self._next = scrubbed.stop
        if self._next == self._pages:
            self.rounds += 1
            self.round_s = now - self._round_began
            self._next, self._round_began = 0, now

    def _found(self, figures: Figures) -> str:
        named = ", ".join(map(str, figures.untracked_pages)) + (", ..." if figures.untracked > len(figures.untracked_pages) else "")
        return (
            f"syncvm {figures.number} found and mended {figures.untracked} pages that differed although no write to them was reported "
            f"({named}): a fault of the dirty tracking, of the memory, or of something that writes into the VM's memory from outside"
        )

    @property
    def sentence(self) -> str:
        """What the service's word lacks; empty if nothing."""
        if not self.doubt_pages:
            return ""
        return f"{self.doubt_pages} pages had differed unreported and were mended; 'ploverctl audit' compares all memory"

    def describe(self) -> dict[str, Any]:
        """For the status. Counts are since this daemon began, and of syncvms that it led."""
        return {
            "interval_s": self._interval_s,
            "pages": self.pages,
            "rounds": self.rounds,
            "round_s": None if self.round_s is None else round(self.round_s, 3),
            "untracked_pages": self.untracked_pages,
            "doubt_pages": self.doubt_pages,
        }
