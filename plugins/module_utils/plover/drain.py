# SPDX-License-Identifier: GPL-3.0-or-later
"""How long a secondary waits at a syncvm until its VM is idle: as long as that pays. Sans-I/O.

The paper lets it wait (§5.1): a VM that has done its work has more pages in common with the leader's, and less is sent. But
the leader's VM stands still meanwhile. A VM that is slow, as under TCG after each load, or whose pages differ anyway, makes
that a loss. So the secondary learns what each limit costs: the time from the syncvm's entry until all is here, which has the
wait and the transfer in it. Mostly the cheapest limit is taken; now and then, in turn, another one, as loads change.
"""
from __future__ import annotations

PARTS = (0.0, 0.1, 0.4, 1.0)  # of the longest wait
TRY_EVERY = 16
WEIGHT = 0.2  # of a new figure in the average


class DrainLimit:
    """Limits in seconds, from none to ``max_s``."""

    def __init__(self, max_s: float) -> None:
        self._limits_s = [part * max_s for part in PARTS]
        self._costs_s: list[float | None] = [None] * len(PARTS)
        self._taken = len(PARTS) - 1
        self._count = self._turn = 0

    def take(self) -> float:
        """The limit of the next syncvm."""
        self._count += 1
        unknown = [n for n, cost in enumerate(self._costs_s) if cost is None]
        if unknown:
            self._taken = unknown[-1]
        elif self._count % TRY_EVERY == 0:
            self._turn = (self._turn + 1) % len(PARTS)
            self._taken = self._turn
        else:
            self._taken = min(range(len(PARTS)), key=self._costs_s.__getitem__)
        return self._limits_s[self._taken]

    def learn(self, cost_s: float) -> None:
        """What the syncvm that took the last limit cost. One that was given up tells nothing."""
        before = self._costs_s[self._taken]
        self._costs_s[self._taken] = cost_s if before is None else before + WEIGHT * (cost_s - before)
