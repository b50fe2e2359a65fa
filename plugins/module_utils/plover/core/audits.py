# SPDX-License-Identifier: GPL-3.0-or-later
"""Who has asked a leader for an audit: the next syncvm will be one, or the one that is under way is. Sans-I/O."""
from __future__ import annotations

from collections.abc import Callable

from ..syncvm import phases as sv
from ..syncvm.figures import Figures

Answer = Callable[["Figures | str"], None]  # what was found, or why the audit was given up


class Audits:
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
        audit = (sv.DISKS if self._disks else sv.MEMORY) if self._asked else 0
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
