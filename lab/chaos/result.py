# SPDX-License-Identifier: GPL-3.0-or-later
"""From rounds to the table a person reads and the result.json a program reads. Pure."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple


class Round(NamedTuple):
    """One fault, done. ``lost``, ``violations``: sentences; ``details``: figures for rounds.jsonl only."""

    number: int
    fault: str
    role: str
    outage_ms: int
    lost: list[str]
    violations: list[str]
    protected: bool
    seconds: float
    details: dict

    @property
    def cell(self) -> str:
        return f"{self.fault}/{self.role}"

    @property
    def good(self) -> bool:
        return self.protected and not self.lost and not self.violations


def percentile(values: list[int], percent: float) -> int:
    """Nearest rank: a value that occurred."""
    return sorted(values)[max(0, math.ceil(percent / 100 * len(values)) - 1)]


def summary(rounds: Iterable[Round]) -> dict:
    """result.json; its keys are a promise to others."""
    rounds = list(rounds)
    cells: dict[str, list[Round]] = defaultdict(list)
    for one in rounds:
        cells[one.cell].append(one)
    faults = {}
    for cell, members in sorted(cells.items()):
        outages = [m.outage_ms for m in members]
        faults[cell] = {"rounds": len(members), "outage_ms_p50": percentile(outages, 50), "outage_ms_p99": percentile(outages, 99)}
    return {
        "rounds": len(rounds),
        "lost": sum(len(r.lost) for r in rounds),
        "violations": sum(len(r.violations) for r in rounds),
        "unprotected_at_end": sum(not r.protected for r in rounds),
        "faults": faults,
    }


def good(result: dict) -> bool:
    return result["rounds"] > 0 and not (result["lost"] or result["violations"] or result["unprotected_at_end"])


def table(rounds: Iterable[Round]) -> str:
    """Fault x role, one line each, and a last line over all."""
    rounds = list(rounds)
    lines = [f"{'fault / role':<26}{'rounds':>7}{'outage p50':>12}{'p99 ms':>8}{'lost':>6}{'violations':>12}{'unprotected':>13}"]
    for cell, figures in summary(rounds)["faults"].items():
        members = [r for r in rounds if r.cell == cell]
        lines.append(_line(cell, members, figures["outage_ms_p50"], figures["outage_ms_p99"]))
    if rounds:
        outages = [r.outage_ms for r in rounds]
        lines.append(_line("all", rounds, percentile(outages, 50), percentile(outages, 99)))
    return "\n".join(lines)


def _line(name: str, members: list[Round], p50: int, p99: int) -> str:
    return (
        f"{name:<26}{len(members):>7}{p50:>12}{p99:>8}{sum(len(r.lost) for r in members):>6}"
        f"{sum(len(r.violations) for r in members):>12}{sum(not r.protected for r in members):>13}"
    )
