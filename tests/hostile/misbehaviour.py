# SPDX-License-Identifier: GPL-3.0-or-later
"""Orders to a hostile QEMU, and its diary: files in its run folder, which outlive it.

A point is a place where it can go wrong: ``qmp:stop`` (a command of that name), ``colo:REPLY`` (a message of the COLO
loop), ``capture`` (its migration stream), ``state`` (the file of its devices), ``net`` (a frame that its guest answers).
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import NamedTuple

RULE, FIRED, DIARY = "hostile.json", "hostile.fired", "hostile.log"
TORN = "TORN"  # begins a line of the diary about memory and devices of two moments


class Rule(NamedTuple):
    point: str
    how: str
    once: bool = True  # else for ever, in each QEMU of this member


class Script:
    """The QEMU's side."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def at(self, point: str) -> str:
        """How to misbehave here; empty: behave."""
        self.write(point)
        rule = self._rule()
        if rule is None or rule.point != point or not self._first(rule):
            return ""
        self.write(f"FAULT {point} {rule.how}")
        return rule.how

    def _rule(self) -> Rule | None:
        try:
            return Rule(*json.loads((self._folder / RULE).read_text()))
        except (OSError, ValueError):
            return None

    def _first(self, rule: Rule) -> bool:
        try:
            os.close(os.open(self._folder / FIRED, os.O_CREAT | os.O_EXCL, 0o600))
        except FileExistsError:
            return not rule.once
        return True

    def write(self, line: str) -> None:
        with open(self._folder / DIARY, "a", encoding="utf-8") as file:
            file.write(line + "\n")


class Director:
    """The test's side, for one member's run folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def order(self, rule: Rule | None) -> None:
        (self._folder / RULE).unlink(missing_ok=True)
        (self._folder / FIRED).unlink(missing_ok=True)
        if rule:
            new = self._folder / "hostile.new"
            new.write_text(json.dumps(rule))
            new.rename(self._folder / RULE)

    @property
    def fired(self) -> bool:
        return (self._folder / FIRED).exists()

    def diary(self) -> list[str]:
        path = self._folder / DIARY
        return path.read_text().splitlines() if path.exists() else []

    def points(self) -> list[str]:
        """Where this member's QEMUs could have gone wrong so far, in the order of the first time."""
        kinds = ("qmp:", "colo:", "capture", "state", "net")
        return list(dict.fromkeys(line for line in self.diary() if line.startswith(kinds)))

    def torn(self) -> list[str]:
        return [line for line in self.diary() if line.startswith(TORN)]
