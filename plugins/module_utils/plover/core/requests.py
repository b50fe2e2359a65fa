# SPDX-License-Identifier: GPL-3.0-or-later
"""The operator's requests to a leader, and who waits for the answers: audits, a switchover. Pure."""

from __future__ import annotations

from collections.abc import Callable

from ..syncvm.figures import Figures
from ..syncvm.phases import DISKS, MEMORY

Answer = Callable[["Figures | str"], None]  # the audit's figures, or why it was given up


class Audits:
    """Audits asked for: the next syncvm is one. And audits under way: the present syncvm is one."""

    def __init__(self) -> None:
        self._asked: list[Answer] = []
        self._disks = False  # one of those asked for compares the disks too
        self._under_way: list[Answer] = []

    def ask(self, answer: Answer, disks: bool) -> None:
        self._asked.append(answer)
        self._disks = self._disks or disks

    @property
    def asked(self) -> bool:
        return bool(self._asked)

    def begin(self) -> int:
        """A syncvm begins. Returns what it must compare as an audit (MEMORY or DISKS); 0 if nobody asked."""
        audit = (DISKS if self._disks else MEMORY) if self._asked else 0
        self._under_way, self._asked, self._disks = self._asked, [], False
        return audit

    def end(self, figures: Figures) -> None:
        """The audit's syncvm is over."""
        answers, self._under_way = self._under_way, []
        for answer in answers:
            answer(figures)

    def give_up(self, why: str) -> None:
        answers, self._asked, self._under_way = self._asked + self._under_way, [], []
        for answer in answers:
            answer(why)


class Switchover:
    """After one more syncvm the secondary is told to take over; its election ends our lead."""

    def __init__(self) -> None:
        self._answer: Callable[[str | None], None] | None = None
        self._began_at: float | None = None

    def ask(self, answer: Callable[[str | None], None]) -> None:
        self._answer = answer

    @property
    def asked(self) -> bool:
        return self._answer is not None

    def begin(self, now: float) -> None:
        """The secondary is told to take over."""
        self._began_at = now

    @property
    def under_way(self) -> bool:
        return self._began_at is not None

    def overdue(self, now: float, limit_s: float) -> bool:
        return self._began_at is not None and now > self._began_at + limit_s

    def end(self, error: str | None) -> None:
        """``error``: why the secondary did not take over; None if it leads."""
        answer, self._answer, self._began_at = self._answer, None, None
        if answer:
            answer(error)
