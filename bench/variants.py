# SPDX-License-Identifier: GPL-3.0-or-later
"""The replica daemon with one part of its syncvm taken out, to see what that part is worth: ``python -m bench.variants
VARIANT CONFIG``. The paper takes the same apart (§6.4, figure 8: fixed slots, total order, idle detection).

``interval``          a syncvm at a fixed time after the last, whether the leader's VM is idle or not; the secondary's VM is
                      stopped at once
``interval-drained``  the same, but the secondary waits until its VM is idle, as long as it may
``idle``              a syncvm as soon as the leader's VM is idle; the secondary's VM is stopped at once
``idle-drained``      the same, and the secondary waits: the paper's design
"""
from __future__ import annotations

import sys

from plover import follower, leader
from plover.daemon import run_daemon
from plover.drain import DrainLimit
from plover.pace import Pace
from plover.replica import Replica


class AtOnce(DrainLimit):
    def take(self) -> float:
        return 0.0


class Patient(DrainLimit):
    def take(self) -> float:
        return self._limits_s[-1]


class Slots(Pace):
    """Output is let out by fixed slots: syncvm_interval_ms_max."""

    def due(self, held_s: float | None, idle: bool) -> bool:
        return False


VARIANTS: dict[str, tuple[type[Pace], type[DrainLimit]]] = {
    "interval": (Slots, AtOnce), "interval-drained": (Slots, Patient),
    "idle": (Pace, AtOnce), "idle-drained": (Pace, Patient)}


if __name__ == "__main__":
    leader.Pace, follower.DrainLimit = VARIANTS[sys.argv.pop(1)]
    run_daemon(Replica, "replica")
