# SPDX-License-Identifier: GPL-3.0-or-later
"""What this host's images are fit for: a durable mark on each. Cold start, forced failover and initial sync obey it.

    unmarked    nothing is known against it
    whole       a copy of the leader's, complete and on the disk; since then each of the leader's writes went here too
    live        this host's VM writes to it; after a power loss it is like any disk after a power loss
    merging     promoted: QEMU merges the overlays into it. They are in memory; without them its blocks are of two moments
    incomplete  a copy to it began and is not complete on the disk
    missed      it lacks a write that the guest believes is done

Each mark carries the view it was set in. Their order matters: a mark that warns is durable *before* the first write that
tears the image; a mark that clears a warning is set *after* all writes are on the disk.
"""

from __future__ import annotations

from typing import NamedTuple

UNMARKED, WHOLE, LIVE, MERGING, INCOMPLETE, MISSED = "unmarked", "whole", "live", "merging", "incomplete", "missed"
UNREADABLE = "unreadable"
TORN = (MERGING, INCOMPLETE, UNREADABLE, MISSED)  # the worst last
_TEXT = {
    UNMARKED: "no copy of another host's, as far as this host knows",
    WHOLE: "whole as of view {view}, as the leader of that view left it",
    LIVE: "whole as of view {view}, in which this host's VM used it",
    MERGING: "torn: its VM's last writes were being merged into it after the failover to view {view}",
    INCOMPLETE: "incomplete: a copy of the leader's disk began in view {view} and is not complete",
    UNREADABLE: "marked in a way that this version cannot read",
    MISSED: "torn: it missed a write in view {view}",
}


class Mark(NamedTuple):
    state: str = UNMARKED
    view: int = 0

    @property
    def torn(self) -> bool:
        return self.state in TORN

    def __str__(self) -> str:
        return _TEXT[self.state].format(view=self.view)


def parse(text: str) -> Mark:
    """A mark from its text, e.g. "merging 7"."""
    if not text:
        return Mark()
    state, _space, view = text.partition(" ")
    known = state in _TEXT and view.isdecimal() and len(view) <= 20
    return Mark(state, int(view)) if known else Mark(UNREADABLE)


def worse(one: Mark, other: Mark) -> Mark:
    """The mark with the graver warning; of two without a warning, the later one."""
    rank = {state: n for n, state in enumerate(TORN, 1)}
    return max(one, other, key=lambda mark: (rank.get(mark.state, 0), mark.view, mark.state != UNMARKED))


def why_torn(marks: tuple[Mark, ...]) -> str:
    """Which of a host's images must not be booted, and why; empty if all may."""
    return "; ".join(f"disks[{n}] is {mark}" for n, mark in enumerate(marks) if mark.torn)


def why_no_source(marks: tuple[Mark, ...]) -> str:
    """Why a leader's images must not be copied; empty if they may. (An image in a merge may be copied once the merge is over.)"""
    return "; ".join(f"disks[{n}] is {mark}" for n, mark in enumerate(marks) if mark.state == MISSED)
