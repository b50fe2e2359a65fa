# SPDX-License-Identifier: GPL-3.0-or-later
"""Which member gets an entry of the log at once. Pure.

Leader and one follower are a quorum. While the other replica is in sync it must get every entry anyway, to feed its VM, and its
answer commits it. So the witness is not asked for each: it gets what it lacks with each heartbeat, and at once when commits do
not come. That saves half of the messages, and most entries never go there, as a syncvm makes them needless before that.
"""

from __future__ import annotations

from .durable import Record
from .group import Group


class Sending:
    """Of one leader in one view."""

    def __init__(self, group: Group) -> None:
        self._group = group
        self._waits_for: int | None = None  # the index that was to be committed next, when last looked at

    def at_once(self, record: Record) -> tuple[str, ...]:
        """Who gets an entry as soon as there is one. ``record``: of who is in sync."""
        in_sync = tuple(other for other in self._group.others if other in record.in_sync)
        return in_sync or self._group.others

    def stalls(self, commit_index: int, last_index: int) -> bool:
        """Called at each tick: have entries waited for an answer since the tick before?"""
        before, self._waits_for = self._waits_for, commit_index + 1 if commit_index < last_index else None
        return before is not None and before == self._waits_for
