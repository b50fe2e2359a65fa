# SPDX-License-Identifier: GPL-3.0-or-later
"""Is the VM idle? The paper's rule (§5.1): in several looks in a row, QEMU's process CPU clock grows no faster than that of a
vacant VM, and QEMU has read all input. We add: none of its threads waits for a CPU. (Block I/O is not checked: a VM that only
waits for its disk counts as idle.)"""

from __future__ import annotations

import asyncio
from array import array
from concurrent.futures import ThreadPoolExecutor

from .library import load

LOOKS = 3
LOOK_NS = 100_000
VACANT_CPU_SHARE = 0.2  # of one CPU; a vacant guest under TCG stays well below
WAITERS_MAX = 2  # the wait inside a syncvm may begin before the wait that triggers syncvms has ended


class IdleMonitor:
    """For one QEMU. ``net``: the socket from which it reads its input, -1 if there is none."""

    def __init__(self, pid: int, net: int = -1) -> None:
        self._pid, self._net, self._native = pid, net, load()
        self._disturbed = array("I", (0,))
        self._rested: int | None = None  # value of _disturbed when the VM was last seen idle
        self._waiters = ThreadPoolExecutor(WAITERS_MAX, "plover-idle")

    def disturb(self) -> None:
        """Input went in: earlier looks no longer count."""
        self._disturbed[0] = self._disturbed[0] + 1 & 0xFFFFFFFF

    async def wait(self, limit_s: float) -> bool:
        """Wait until the VM is idle (True), or for ``limit_s`` (False). A QEMU that has ended counts as idle."""
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
        """No input since the VM was last seen idle."""
        return self._rested == self._disturbed[0]

    def close(self) -> None:
        self._waiters.shutdown(wait=False)
