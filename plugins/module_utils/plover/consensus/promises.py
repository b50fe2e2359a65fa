# SPDX-License-Identifier: GPL-3.0-or-later
"""The promises of this member: its view, its vote in that view, and the in-sync record. Pure.

Views and records only grow, and they are on disk before any other member hears of them (docs/ARCHITECTURE.md, invariant 3).
So there is only one way to change them: it checks the rules and hands the new state to ``persist`` before it returns. Every
message that tells of the change is queued after that.
"""

from __future__ import annotations

from collections.abc import Callable

from ..errors import InvariantViolation
from .durable import Durable, Record


class Promises:
    def __init__(self, state: Durable, persist: Callable[[Durable], None]) -> None:
        self._persist = persist
        self.view, self.voted_for, self.record = state

    def enter(self, view: int, voted_for: str | None = None, record: Record | None = None) -> None:
        """Enter ``view``, with our vote in it and a new record, if given. The same vote may be repeated."""
        self._change(Durable(view, voted_for, record or self.record))

    def store(self, record: Record) -> None:
        self._change(Durable(self.view, self.voted_for, record))

    def _change(self, new: Durable) -> None:
        old = Durable(self.view, self.voted_for, self.record)
        if new.view < old.view:
            raise InvariantViolation(f"view went from {old.view} to {new.view}")
        if new.view == old.view and new.voted_for != old.voted_for:
            raise InvariantViolation(f"two votes in view {new.view}: {old.voted_for} and {new.voted_for}")
        if new.record.order < old.record.order:
            raise InvariantViolation(f"the in-sync record went from {old.record} to {new.record}")
        if new.record.view > new.view:
            raise InvariantViolation(f"the in-sync record {new.record} is of a later view than {new.view}")
        self.view, self.voted_for, self.record = new
        self._persist(new)
