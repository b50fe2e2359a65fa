# SPDX-License-Identifier: GPL-3.0-or-later
"""Is the VM idle? The paper's rule (§5.1): QEMU's process CPU clock grows no faster than that of a vacant VM,
three looks in a row. (Block I/O joins the rule once disks are there.)"""
from __future__ import annotations

import time

LOOKS = 3
VACANT_CPU_SHARE = 0.2  # of one CPU; a vacant guest under TCG stays well below


class IdleMonitor:
    def __init__(self, pid: int) -> None:
        self._clock = (~pid << 3) | 2  # CPUCLOCK_SCHED of a whole process (Linux posix-timers)
        self._cpu = self._wall = 0.0
        self._looks = 0

    def disturb(self) -> None:
        """Input went in: what was seen before no longer counts."""
        self._looks = 0

    def look(self) -> bool:
        """One look; True if this and the looks before it were idle. A vanished process is idle."""
        try:
            cpu, wall = time.clock_gettime(self._clock), time.monotonic()
        except OSError:
            return True
        elapsed = wall - self._wall
        if elapsed < 0.0003:
            return self._looks >= LOOKS
        self._looks = self._looks + 1 if cpu - self._cpu <= VACANT_CPU_SHARE * elapsed and elapsed < 0.1 else 0
        self._cpu, self._wall = cpu, wall
        return self._looks >= LOOKS
