# SPDX-License-Identifier: GPL-3.0-or-later
"""Work that goes through phases by a table: phase x event -> next phase. Sans-I/O.

The tables are data (syncvm/phases.py): docs/syncvm.md is drawn from them, and each step is checked against them.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Generic, TypeVar

from ..errors import InvariantViolation, WireError

BY_PEER = True


class Phase(str, Enum):
    """The value is the name in logs and status; ``does``: what this side does in this phase."""

    does: str

    def __new__(cls, name: str, does: str) -> Phase:
        phase = str.__new__(cls, name)
        phase._value_, phase.does = name, does
        return phase

    def __str__(self) -> str:
        return str(self.value)


class Event(Enum):
    """Named after an answer of our own host, a message of the other side, or the outcome of a step."""

    def __init__(self, text: str, by_peer: bool = False) -> None:
        self.text, self.by_peer = text, by_peer


P = TypeVar("P", bound=Phase)
Table = Mapping[P, Mapping[Event, P]]


class PhaseMachine(Generic[P]):
    def __init__(self, table: Table[P], first: P, work: str) -> None:
        """``work``: its name in errors."""
        self._table, self.phase, self._work = table, first, work

    def require(self, event: Event) -> P:
        """The phase after ``event``. An event out of place raises WireError if the other side caused it, else InvariantViolation."""
        after = self._table[self.phase].get(event)
        if after is None:
            raise (WireError if event.by_peer else InvariantViolation)(f"{event.text} in phase {self.phase} of {self._work}")
        return after

    def happened(self, event: Event) -> None:
        self.phase = self.require(event)
