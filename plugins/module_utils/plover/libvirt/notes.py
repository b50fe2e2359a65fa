# SPDX-License-Identifier: GPL-3.0-or-later
"""What an import has to say beside the entry of plover_vms. Pure."""

from __future__ import annotations

from typing import Any, NamedTuple

from .tables import UNKNOWN
from .tree import quoted

NOTES_MAX = 200
REASON_MAX = 600  # characters


class Wishes(NamedTuple):
    """What the domain cannot say, or what the operator wants otherwise; empty: as the domain says."""

    name: str = ""
    primary: str = ""
    secondary: str = ""
    witness: str = ""
    bridge: str = ""
    machine: str = ""


class Imported(NamedTuple):
    """``vm``: the entry of plover_vms. Of the lists each item is (what, why): what of the domain was left out; what stands in the way
    of a VM that works as before; what the operator has to add or do."""

    vm: dict[str, Any]
    left_out: list[tuple[str, str]]
    in_the_way: list[tuple[str, str]]
    to_do: list[tuple[str, str]]


class Notes:
    """Collects them. What has the same reason becomes one item."""

    def __init__(self) -> None:
        self._left_out: dict[str, list[str]] = {}
        self._in_the_way: dict[str, list[str]] = {}
        self._to_do: dict[str, list[str]] = {}

    def leave_out(self, what: str, why: str) -> None:
        _add(self._left_out, what, why)

    def refuse(self, what: str, why: str) -> None:
        _add(self._in_the_way, what, why)

    def ask(self, what: str, why: str) -> None:
        _add(self._to_do, what, why)

    def sort(self, what: str, tag: str, refused: dict[str, str], left_out: dict[str, str], read: set[str]) -> None:
        """One element, by the tables; one that none of them knows stands in the way."""
        if tag in refused:
            self.refuse(f"{what}{tag}", refused[tag])
        elif tag in left_out:
            self.leave_out(f"{what}{tag}", left_out[tag])
        elif tag not in read:
            self.refuse(f"{what}{quoted(tag)}", UNKNOWN)

    def imported(self, vm: dict[str, Any]) -> Imported:
        return Imported(vm, _items(self._left_out), _items(self._in_the_way), _items(self._to_do))


def _add(notes: dict[str, list[str]], what: str, why: str) -> None:
    if len(notes) >= NOTES_MAX and why not in notes:
        what, why = "more", f"not listed: there are over {NOTES_MAX} such elements"
    why = quoted(why, REASON_MAX)
    whats = notes.setdefault(why, [])
    if quoted(what) not in whats and len(whats) < NOTES_MAX:
        whats.append(quoted(what))


def _items(notes: dict[str, list[str]]) -> list[tuple[str, str]]:
    return [(", ".join(whats), why) for why, whats in notes.items()]
