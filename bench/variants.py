# SPDX-License-Identifier: GPL-3.0-or-later
"""The replica daemon with one part of its syncvm taken out, to see what that part is worth: ``python -m bench.variants
VARIANT CONFIG``. The paper takes the same apart (§6.4: fixed slots, total order, idle detection).

``interval``          a syncvm at a fixed time after the last, whether the leader's VM is idle or not; the secondary's VM is
                      stopped at once
``interval-drained``  the same, but the secondary waits until its VM is idle, as long as it may
``idle``              a syncvm as soon as the leader's VM is idle; the secondary's VM is stopped at once
``idle-drained``      the same, and the secondary waits: the paper's design
``stored``            the runtime as it is, but blocks of pages are not packed
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace

from plover.core import follower, leader
from plover.daemon.life import run_daemon
from plover.native import zstd
from plover.replica import daemon as replica
from plover.syncvm.pace import Pace
from plover.syncvm.quiesce import QuiesceLimit


class AtOnce(QuiesceLimit):
    def take(self) -> float:
        return 0.0


class Patient(QuiesceLimit):
    def take(self) -> float:
        return self._limits_s[-1]


class Slots(Pace):
    """Output is let out by fixed slots: syncvm_interval_ms_max."""

    def due(self, held_s: float | None, idle: bool) -> bool:
        return False


def timing(pace: type[Pace], drain: type[QuiesceLimit]) -> None:
    leader.Pace, follower.QuiesceLimit = pace, drain


def stored() -> None:
    replica.zstd = SimpleNamespace(compress=partial(zstd.compress, level=-(1 << 17)))  # the lowest level that zstd.h has: as good as a copy


VARIANTS: dict[str, Callable[[], None]] = {
    "interval": partial(timing, Slots, AtOnce),
    "interval-drained": partial(timing, Slots, Patient),
    "idle": partial(timing, Pace, AtOnce),
    "idle-drained": partial(timing, Pace, Patient),
    "stored": stored,
}


if __name__ == "__main__":
    VARIANTS[sys.argv.pop(1)]()
    run_daemon(replica.Replica, "replica")
