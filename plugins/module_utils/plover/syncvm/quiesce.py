# SPDX-License-Identifier: GPL-3.0-or-later
"""How long a secondary waits at a syncvm until its VM is idle: as long as that pays. Sans-I/O.

The paper lets it wait (§5.1): a VM that has done its work has more pages in common with the leader's, and less is sent. But
the leader's VM stands still meanwhile. A VM that is slow, as under TCG after each load, or whose pages differ anyway, makes
that a loss. So the secondary learns what each limit costs: the time from the syncvm's entry until all is here, which has the
wait and the transfer in it. The cheapest limit is taken. What is known of the others fades with each syncvm in which they
are not: in time each is the cheapest known, and tried again, the sooner the closer it comes. Loads change; and a figure that
a busy moment spoilt is forgotten. One that a try confirms fades more slowly from then on: trying costs too.
"""

from __future__ import annotations

PARTS = (0.0, 0.1, 0.4, 1.0)  # of the longest wait
WEIGHT = 0.4  # of a new figure in the average, beside one that has just been learnt
FADING = 0.985  # of what is known, with each syncvm
CONFIRMED_MAX = 3  # each time a cost is confirmed it fades half as fast, down to an eighth
SURPRISE = 1.5  # a cost so many times another than the one known is news


class QuiesceLimit:
    """Limits in seconds, from none to ``max_s``."""

    def __init__(self, max_s: float) -> None:
        self._limits_s = [part * max_s for part in PARTS]
        self._costs_s = [0.0] * len(PARTS)  # none is known: each gets its turn
        self._known = [0.0] * len(PARTS)  # how much of a cost is still believed, from 0 to 1
        self._confirmed = [0] * len(PARTS)
        self._taken = 0

    def take(self) -> float:
        """The limit of the next syncvm."""
        self._taken = min(range(len(PARTS)), key=lambda n: self._costs_s[n] * self._known[n])
        return self._limits_s[self._taken]

    def learn(self, cost_s: float) -> None:
        """What the syncvm that took the last limit cost. One that was given up tells nothing."""
        n = self._taken
        confirmed = self._costs_s[n] / SURPRISE <= cost_s <= self._costs_s[n] * SURPRISE
        self._confirmed[n] = min(self._confirmed[n] + 1, CONFIRMED_MAX) if confirmed else 0
        weight = 1.0 - (1.0 - WEIGHT) * self._known[n]
        self._costs_s[n] += weight * (cost_s - self._costs_s[n])
        self._known = [known * FADING**0.5**times for known, times in zip(self._known, self._confirmed, strict=True)]
        self._known[n] = 1.0
