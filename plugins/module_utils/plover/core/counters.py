# SPDX-License-Identifier: GPL-3.0-or-later
"""What a replica counts for its status, since its daemon began: how long syncvms took, and how long the VM stood still. Pure.

It watches and never decides. Counts only grow, so whoever reads them twice knows what happened in between.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Any

from ..syncvm.figures import Figures

BOUNDS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)  # upper bounds; one more count is for what is above
TOTALS = ("dirty_pages", "divergent_pages", "bytes")


class Histogram:
    """Of durations in seconds."""

    def __init__(self) -> None:
        self._counts, self._sum_s = [0] * (len(BOUNDS_S) + 1), 0.0

    def add(self, seconds: float) -> None:
        self._counts[bisect_left(BOUNDS_S, seconds)] += 1
        self._sum_s += seconds

    def describe(self) -> dict[str, Any]:
        return {"bounds_s": list(BOUNDS_S), "counts": list(self._counts), "sum_s": round(self._sum_s, 6)}


class Counters:
    def __init__(self) -> None:
        self.totals = dict.fromkeys(("syncvms", *TOTALS), 0)
        self.sent_bytes: dict[str, int] = {}  # over all syncvms, in both directions, by kind
        self.last_at: float | None = None  # when the last syncvm ended
        self._pauses, self._cycles = Histogram(), Histogram()
        self._stopped_s = 0.0
        self._stopped_at: float | None = None

    def syncvm(self, figures: Figures, now: float) -> None:
        """A syncvm of ours ended."""
        self.totals["syncvms"] += 1
        for key in TOTALS:
            self.totals[key] += getattr(figures, key)
        for kind, count in figures.sent.items():
            self.sent_bytes[kind] = self.sent_bytes.get(kind, 0) + count
        self._pauses.add(figures.pause_ms / 1000)
        if self.last_at is not None:
            self._cycles.add(now - self.last_at)
        self.last_at = now

    # ---- the leader's VM stands still, and its clock with it ------------------------------------------------------
    def vm_stops(self, now: float) -> None:
        if self._stopped_at is None:
            self._stopped_at = now

    def vm_runs(self, now: float) -> None:
        if self._stopped_at is not None:
            self._stopped_s += now - self._stopped_at
        self._stopped_at = None

    def vm_gone(self) -> None:
        """Its QEMU ends or begins anew: nobody's clock stood still."""
        self._stopped_at = None

    def describe(self, now: float) -> dict[str, Any]:
        """For the status. Times are in seconds."""
        still = 0.0 if self._stopped_at is None else now - self._stopped_at
        return {
            "pause": self._pauses.describe(),
            "cycle": self._cycles.describe(),
            "sent_bytes": dict(self.sent_bytes),
            "stopped_s": round(self._stopped_s + still, 6),
            "last_syncvm_age_s": None if self.last_at is None else round(now - self.last_at, 3),
        }
