# SPDX-License-Identifier: GPL-3.0-or-later
"""The list of mutants: what each breaks, and how to switch it on."""

from __future__ import annotations

from collections.abc import Callable

MUTANTS: dict[str, tuple[str, Callable[[], None]]] = {}


def mutant(text: str):
    def add(switch_on: Callable[[], None]) -> Callable[[], None]:
        MUTANTS[switch_on.__name__.replace("_", "-")] = (text, switch_on)
        return switch_on

    return add
