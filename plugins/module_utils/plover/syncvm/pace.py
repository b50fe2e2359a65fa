# SPDX-License-Identifier: GPL-3.0-or-later
"""When held output makes a syncvm due. Sans-I/O.

An idle VM has done its work: at once, no timer delays a burst that is answered (paper §5.1). A busy one is stopped when its
oldest held output would else be later than `latency_ms_target`, what a syncvm costs considered. But not before it ran for
as long as one costs, or syncvms would be all that the hosts do; and not after the target, whatever one costs.
"""

from __future__ import annotations

WEIGHT = 0.2  # of a new figure in the average


class Pace:
    """Times in seconds."""

    def __init__(self, target_s: float) -> None:
        self._target_s, self.cost_s = target_s, 0.0

    def learn(self, cost_s: float) -> None:
        """From a syncvm's begin until its output could leave."""
        self.cost_s += WEIGHT * (cost_s - self.cost_s)

    @property
    def hold_s(self) -> float:
        """A busy VM's output is held so long before a syncvm begins."""
        return min(self._target_s, max(self._target_s - self.cost_s, self.cost_s))

    def due(self, held_s: float | None, idle: bool) -> bool:
        """``held_s``: how long the oldest output has been held; None: there is none."""
        return held_s is not None and (idle or held_s >= self.hold_s)
