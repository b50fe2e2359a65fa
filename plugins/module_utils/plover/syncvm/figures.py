# SPDX-License-Identifier: GPL-3.0-or-later
"""What a syncvm cost."""

from __future__ import annotations

from typing import NamedTuple

NOTHING = range(0)
NAMED_MAX = 8  # untracked pages that are named, beside their number


class Figures(NamedTuple):
    """Pages are of 4096 bytes. ``bytes``: staged on the secondary. ``sent``: bytes sent in both directions, by kind."""

    number: int
    pause_ms: float
    dirty_pages: int
    divergent_pages: int
    bytes: int
    audit: bool = False
    untracked: int = 0  # audit or scrub: pages that differed although neither side reported a write
    mismatching: int = 0  # audit: pages that still differ after everything was applied
    disk_blocks: int = 0  # audit of disks: image blocks compared
    disk_blocks_mismatching: int = 0
    sent: dict[str, int] = {}
    scrubbed: range = NOTHING  # pages compared beside the dirty ones
    untracked_pages: tuple[int, ...] = ()  # numbers of the first of them

    @property
    def same_page_percent(self) -> float:
        return 100.0 * (1 - self.divergent_pages / self.dirty_pages) if self.dirty_pages else 100.0
