# SPDX-License-Identifier: GPL-3.0-or-later
"""The answers that the database's clients got, and whether the database agrees. Pure: no socket, no clock.

A transaction is OPEN until its COMMIT is sent, then UNKNOWN, and ACKED only when the COMMIT was answered.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

OPEN, UNKNOWN, ACKED = "open", "unknown", "acked"
SHOWN_MAX = 5


class Recorder:
    """``run``: the prefix of all ids of this run, so that they differ from earlier runs."""

    def __init__(self, run: str) -> None:
        self.run = run
        self.states: dict[str, str] = {}
        self.ack_times: list[float] = []
        self.broken = 0
        self.refusals: list[str] = []
        self._counts: Counter[int] = Counter()

    def begin(self, client: int) -> str:
        """The id of a new transaction."""
        self._counts[client] += 1
        name = f"{self.run}.{client}.{self._counts[client]}"
        self.states[name] = OPEN
        return name

    def committing(self, name: str) -> None:
        self.states[name] = UNKNOWN

    def acknowledged(self, name: str, now: float) -> None:
        self.states[name] = ACKED
        self.ack_times.append(now)

    def count(self, state: str) -> int:
        return sum(s == state for s in self.states.values())

    def outage_ms(self) -> int:
        """The longest time without an acknowledged commit of anybody."""
        times = sorted(self.ack_times)
        return round(1000 * max((b - a for a, b in zip(times, times[1:])), default=0.0))


class Found(NamedTuple):
    """What was read from the database after the load. ``checks``: what its own checks complain about."""

    ids: Iterable[str]
    sums: dict[str, int]
    checks: list[str]


def _say(what: str, names: list[str]) -> list[str]:
    more = f" and {len(names) - SHOWN_MAX} more" if len(names) > SHOWN_MAX else ""
    return [f"{what}: {', '.join(sorted(names)[:SHOWN_MAX])}{more}"] if names else []


def judge(recorder: Recorder, found: Found) -> dict:
    """The result of a run. An unknown transaction may be there or not, but at most once."""
    rows = Counter(found.ids)
    lost = [name for name, state in recorder.states.items() if state == ACKED and name not in rows]
    ours = [name for name in rows if name.startswith(recorder.run + ".")]
    uncommitted = [name for name in ours if recorder.states.get(name, OPEN) == OPEN]
    database = (
        _say("there more than once", [name for name, count in rows.items() if count > 1])
        + _say("there, but never committed", uncommitted)
        + list(found.checks)
    )
    if len(set(found.sums.values())) != 1:
        database.append("sums differ: " + ", ".join(f"{table} {total}" for table, total in found.sums.items()))
    problems = (
        _say("acknowledged, but not there", lost) + database + _say(f"{len(recorder.refusals)} statements were refused", recorder.refusals)
    )
    return {
        "acked_commits": recorder.count(ACKED),
        "lost": len(lost),
        "unknown": recorder.count(UNKNOWN),
        "connections_broken": recorder.broken,
        "outage_ms": recorder.outage_ms(),
        "database_checks_ok": not database,
        "problems": problems,
    }
