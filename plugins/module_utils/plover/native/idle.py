# SPDX-License-Identifier: GPL-3.0-or-later
"""Is the VM idle? The paper's rule (§5.1): QEMU's process CPU clock grows no faster than that of a vacant VM, and all input
is read, some looks in a row; and no thread of it waits for a CPU. (Block I/O is not looked at: a VM that only waits for its
disk counts as idle.)"""

from __future__ import annotations

import asyncio
from array import array
from concurrent.futures import ThreadPoolExecutor

from .library import load

LOOKS = 3
LOOK_NS = 100_000
VACANT_CPU_SHARE = 0.2  # of one CPU; a vacant guest under TCG stays well below
WAITERS_MAX = 2  # a syncvm's wait may begin before the one for the next syncvm has ended


class IdleMonitor:
    """Of one QEMU; ``net``: the socket that it reads its input from, -1 if there is none."""

    def __init__(self, pid: int, net: int = -1) -> None:
        self._pid, self._net, self._native = pid, net, load()
        self._disturbed = array("I", (0,))
        self._rested: int | None = None  # what was counted when it was seen idle
        self._waiters = ThreadPoolExecutor(WAITERS_MAX, "plover-idle")

    def disturb(self) -> None:
        """Input went in: what was seen before no longer counts."""
        self._disturbed[0] = self._disturbed[0] + 1 & 0xFFFFFFFF

    async def wait(self, limit_s: float) -> bool:
        """Until the VM is idle (True), or for ``limit_s``. A QEMU that has ended is idle."""
        idle = await asyncio.get_running_loop().run_in_executor(
            self._waiters,
            self._native.wait_idle,
            self._pid,
            self._net,
            self._disturbed,
            LOOKS,
            LOOK_NS,
            VACANT_CPU_SHARE,
            int(limit_s * 1e9),
        )
        self._rested = self._disturbed[0] if idle else None
        return idle

    @property
    def undisturbed(self) -> bool:
        """No input since it was seen idle."""
        return self._rested == self._disturbed[0]

    def close(self) -> None:
        self._waiters.shutdown(wait=False)
