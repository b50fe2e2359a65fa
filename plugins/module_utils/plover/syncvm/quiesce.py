# SPDX-License-Identifier: GPL-3.0-or-later
"""How long a secondary waits at a syncvm for its VM to become idle: as long as that pays. Sans-I/O.

The paper lets it wait (§5.1): a VM that has done its work has more pages in common with the leader's, so less is sent. But the
leader's VM stands still meanwhile. Waiting is a loss if the VM is slow, as under TCG after each load, or if its pages differ
anyway. So the secondary learns the cost of each limit: the time from the syncvm's entry until everything is staged, which
includes the wait and the transfer. It takes the cheapest limit. The costs of the other limits fade with each syncvm, so in
time each of them seems the cheapest and is tried again: the closer its cost, the sooner. That follows changes of load, and
forgets a cost measured in a busy moment. A cost that a try confirms fades more slowly from then on: trying costs too.
"""

from __future__ import annotations

PARTS = (0.0, 0.1, 0.4, 1.0)  # of the longest wait
WEIGHT = 0.4  # of a new cost in the average, if the old one has just been learnt
FADING = 0.985  # factor on what is known, with each syncvm
CONFIRMED_MAX = 3  # a cost fades half as fast each time it is confirmed, down to an eighth
SURPRISE = 1.5  # a cost that differs from the known one by more than this factor does not confirm it


class QuiesceLimit:
    """Limits in seconds, from 0 to ``max_s``."""

    def __init__(self, max_s: float) -> None:
        self._limits_s = [part * max_s for part in PARTS]
        self._costs_s = [0.0] * len(PARTS)  # none is known yet: each is tried once
        self._known = [0.0] * len(PARTS)  # how much of a cost is still believed, from 0 to 1
        self._confirmed = [0] * len(PARTS)
        self._taken = 0

    def take(self) -> float:
        """The limit for the next syncvm."""
        self._taken = min(range(len(PARTS)), key=lambda n: self._costs_s[n] * self._known[n])
        return self._limits_s[self._taken]

    def learn(self, cost_s: float) -> None:
        """The cost of the syncvm that used the last limit. Not called for a syncvm that was given up."""
        n = self._taken
        confirmed = self._costs_s[n] / SURPRISE <= cost_s <= self._costs_s[n] * SURPRISE
        self._confirmed[n] = min(self._confirmed[n] + 1, CONFIRMED_MAX) if confirmed else 0
        weight = 1.0 - (1.0 - WEIGHT) * self._known[n]
        self._costs_s[n] += weight * (cost_s - self._costs_s[n])
        self._known = [known * FADING**0.5**times for known, times in zip(self._known, self._confirmed, strict=True)]
        self._known[n] = 1.0
