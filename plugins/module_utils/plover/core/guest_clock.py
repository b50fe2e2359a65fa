# SPDX-License-Identifier: GPL-3.0-or-later
"""How far the guest's clock falls behind, seen from outside. Pure.

QEMU's virtual clock stands still while its VM is stopped, and so do the guest's clocks, under TCG and KVM alike. Its value at the stop
is part of each device state: section "timer", field cpu_clock_offset (QEMU softmmu/cpu-timers.c, later system/cpu-timers.c). So each
syncvm tells how far it lags behind the host's clock. Errors of a reading do not add up. Inside the guest, chrony may correct it.
"""

from __future__ import annotations

import struct
from collections import deque
from typing import Any

from ..ports.effects import Buffer

WINDOW_S = 60.0
SAMPLES_MAX = 601  # of the window, a tenth of a second apart at least
SECTION = b"\x05timer" + struct.pack("!II", 0, 2)  # name, instance, version
FIELDS = struct.Struct("!qqq")  # cpu_ticks_offset, unused, cpu_clock_offset


def virtual_ns(state: Buffer) -> int | None:
    """The virtual clock in a device state; None if that is of another format."""
    at = bytes(state).find(SECTION)
    if at < 0 or len(state) < at + len(SECTION) + FIELDS.size:
        return None
    return int(FIELDS.unpack_from(state, at + len(SECTION))[2])


class GuestClock:
    """Of the VM that this member has, as leader or secondary, since it has it. Times in seconds."""

    def __init__(self) -> None:
        self.lag_s = 0.0
        self._base: tuple[float, int] | None = None
        self._last_ns = 0
        self._samples: deque[tuple[float, float]] = deque(maxlen=SAMPLES_MAX)  # when, lag_s at that time

    def read(self, now: float, state: Buffer) -> None:
        """A device state of a VM that stood still at ``now``, or shortly before."""
        told_ns = virtual_ns(state)
        if told_ns is None:
            return
        if self._base is None or told_ns < self._last_ns:  # of a VM that was booted afresh
            self._base = (now, told_ns)
            self._samples.clear()
        self._last_ns = told_ns
        self.lag_s = (now - self._base[0]) - (told_ns - self._base[1]) / 1e9
        while self._samples and now - self._samples[0][0] > WINDOW_S:
            self._samples.popleft()
        if not self._samples or now - self._samples[-1][0] >= WINDOW_S / (SAMPLES_MAX - 1):
            self._samples.append((now, self.lag_s))

    @property
    def lag_percent(self) -> float:
        """How much too slow it went in the last minute before the last reading."""
        if len(self._samples) < 2:
            return 0.0
        (began, before_s), (ended, after_s) = self._samples[0], self._samples[-1]
        return 100 * (after_s - before_s) / (ended - began)

    def describe(self) -> dict[str, Any]:
        return {"clock_lag_ms": round(1000 * self.lag_s, 1), "clock_lag_percent": round(self.lag_percent, 3)}
