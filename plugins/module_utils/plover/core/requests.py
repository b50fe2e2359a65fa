# SPDX-License-Identifier: GPL-3.0-or-later
"""What the operator has asked a leader for, and who waits for the answer: audits, a switchover. Pure."""

from __future__ import annotations

from collections.abc import Callable

from ..syncvm.figures import Figures
from ..syncvm.phases import DISKS, MEMORY

Answer = Callable[["Figures | str"], None]  # what was found, or why the audit was given up


class Audits:
    """The next syncvm will be an audit, or the one that is under way is."""

    def __init__(self) -> None:
        self._asked: list[Answer] = []
        self._disks = False  # one of them wants the disks compared too
        self._under_way: list[Answer] = []

    def ask(self, answer: Answer, disks: bool) -> None:
        self._asked.append(answer)
        self._disks = self._disks or disks

    @property
    def asked(self) -> bool:
        return bool(self._asked)

    def begin(self) -> int:
        """A syncvm begins: what it compares for those who have asked; 0 if nobody has."""
        audit = (DISKS if self._disks else MEMORY) if self._asked else 0
        self._under_way, self._asked, self._disks = self._asked, [], False
        return audit

    def end(self, figures: Figures) -> None:
        """That syncvm is over."""
        answers, self._under_way = self._under_way, []
        for answer in answers:
            answer(figures)

    def give_up(self, why: str) -> None:
        answers, self._asked, self._under_way = self._asked + self._under_way, [], []
        for answer in answers:
            answer(why)


class Switchover:
    """The secondary is to lead: after one more syncvm it is told to take over, and its election ends our lead."""

    def __init__(self) -> None:
        self._answer: Callable[[str | None], None] | None = None
        self._began_at: float | None = None

    def ask(self, answer: Callable[[str | None], None]) -> None:
        self._answer = answer

    @property
    def asked(self) -> bool:
        return self._answer is not None

    def begin(self, now: float) -> None:
        """The secondary is told."""
        self._began_at = now

    @property
    def under_way(self) -> bool:
        return self._began_at is not None

    def overdue(self, now: float, limit_s: float) -> bool:
        return self._began_at is not None and now > self._began_at + limit_s

    def end(self, error: str | None) -> None:
        """``error``: why the secondary does not lead; None if it does."""
        answer, self._answer, self._began_at = self._answer, None, None
        if answer:
            answer(error)
