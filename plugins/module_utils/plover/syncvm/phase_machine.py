# SPDX-License-Identifier: GPL-3.0-or-later
"""Work that goes through phases as a table says: phase x event -> next phase. Sans-I/O.

A table is data (syncvm/phases.py), so the picture in docs/syncvm.md is drawn from it, and each step is checked against it
while it happens.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Generic, TypeVar

from ..errors import InvariantViolation, WireError

BY_PEER = True


class Phase(str, Enum):
    """Its value is its name in logs and in status; ``does``: what this side does in it."""

    does: str

    def __new__(cls, name: str, does: str) -> Phase:
        phase = str.__new__(cls, name)
        phase._value_, phase.does = name, does
        return phase

    def __str__(self) -> str:
        return str(self.value)


class Event(Enum):
    """Named after the answer of our own host, the peer's message, or what came out of a step."""

    def __init__(self, text: str, by_peer: bool = False) -> None:
        self.text, self.by_peer = text, by_peer


P = TypeVar("P", bound=Phase)
Table = Mapping[P, Mapping[Event, P]]


class PhaseMachine(Generic[P]):
    def __init__(self, table: Table[P], first: P, work: str) -> None:
        """``work``: what errors call it."""
        self._table, self.phase, self._work = table, first, work

    def require(self, event: Event) -> P:
        """The phase after ``event``. Raises WireError if the peer's message is out of place, InvariantViolation if we are."""
        after = self._table[self.phase].get(event)
        if after is None:
            raise (WireError if event.by_peer else InvariantViolation)(f"{event.text} in phase {self.phase} of {self._work}")
        return after

    def happened(self, event: Event) -> None:
        self.phase = self.require(event)
