# SPDX-License-Identifier: GPL-3.0-or-later
"""Hearsay: what members say of a later view, or of a record, that we have not seen ourselves. Pure.

A view begins for a member with a vote of its own, or with a message of the view's leader. A mere word that there is a later one
changes no promise. It is kept in memory until we hear a leader, and only tells which view and record to stand with. So a lie
leaves nothing behind.

A leader that is told of a later view steps down. That keeps a failover short; safety does not need it, as output leaves only on
acknowledgements of the leader's own view. And the witness's word alone is not enough while the other replica is with us. Only
the other replica can begin a view, apart from us, and it stands only after silence. So a leader that it has acknowledged just
now, or a follower that hears it lead, doubts the witness. The doubts are counted.
"""

from __future__ import annotations

from .durable import Record
from .group import Group
from .promises import Promises
from .sender import ERA, LEAP_VIEWS_MAX

AHEAD_VIEWS_MAX = LEAP_VIEWS_MAX // 2  # a later view would be refused by a replica that is some views behind us
AHEAD_VERSIONS_MAX = ERA


class Hearsay:
    def __init__(self, group: Group, promises: Promises) -> None:
        self._group, self._promises = group, promises
        self.doubts: dict[str, tuple[int, int]] = {}  # member -> how often it was doubted, the last view that it spoke of
        self.forget()

    def forget(self) -> None:
        """A leader speaks: what others said does not matter."""
        self._view, self._record = 0, Record()

    @property
    def view(self) -> int:
        """The latest view, ours or told."""
        return max(self._promises.view, self._view)

    @property
    def record(self) -> Record:
        """The newest record, ours or told. It is of no later view than :attr:`view`."""
        return max(self._promises.record, self._record, key=lambda record: record.order)

    def doubt(self, src: str, view: int) -> None:
        count, _last = self.doubts.get(src, (0, 0))
        self.doubts[src] = count + 1, view

    def note(self, src: str, view: int, record: Record | None) -> None:
        """``src`` speaks of ``view``, and of ``record``."""
        known = self._promises
        if not self._group.is_replica(src) and view > known.view + AHEAD_VIEWS_MAX:
            return self.doubt(src, view)
        self._view = max(self._view, view)
        # Only a record that names us is of use to us, and nobody tells us another.
        if record and self._group.me in record.in_sync and record.version <= known.record.version + AHEAD_VERSIONS_MAX:
            self._record = max(self._record, record, key=lambda each: each.order)

    def describe(self) -> dict[str, dict[str, int]]:
        return {member: {"count": count, "view": view} for member, (count, view) in self.doubts.items()}
