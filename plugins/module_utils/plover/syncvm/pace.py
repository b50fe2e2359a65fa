# SPDX-License-Identifier: GPL-3.0-or-later
"""When held output makes a syncvm due. Sans-I/O.

An idle VM has done its work: a syncvm is due at once, so no timer delays a burst that is answered (paper §5.1). A busy VM is
stopped early enough that its oldest held output leaves within `latency_ms_target`, given the cost of a syncvm. But the
output is held for at least as long as one syncvm costs, or the hosts would do nothing else; and never longer than the target.
"""

from __future__ import annotations

WEIGHT = 0.2  # of a new cost in the average


class Pace:
    """Times in seconds."""

    def __init__(self, target_s: float) -> None:
        self._target_s, self.cost_s = target_s, 0.0

    def learn(self, cost_s: float) -> None:
        """``cost_s``: from the begin of a syncvm until its output could leave."""
        self.cost_s += WEIGHT * (cost_s - self.cost_s)

    @property
    def hold_s(self) -> float:
        """How long a busy VM's output is held before a syncvm begins."""
        return min(self._target_s, max(self._target_s - self.cost_s, self.cost_s))

    def due(self, held_s: float | None, idle: bool) -> bool:
        """``held_s``: how long the oldest output has been held; None: there is none."""
        return held_s is not None and (idle or held_s >= self.hold_s)
