# SPDX-License-Identifier: GPL-3.0-or-later
"""How often a guest that ends is started again without being asked. Pure."""

from __future__ import annotations

from collections import deque

RESTARTS_MAX, RESTARTS_S = 5, 600.0
TOO_MANY = f"it was started again {RESTARTS_MAX} times in the last {RESTARTS_S / 60:.0f} minutes"


class Restarts:
    """Of one leader's VM. A guest that ends at each boot is left alone in the end."""

    def __init__(self) -> None:
        self._at: deque[float] = deque(maxlen=RESTARTS_MAX)

    def allowed(self, now: float) -> bool:
        return len(self._at) < RESTARTS_MAX or now - self._at[0] >= RESTARTS_S

    def note(self, now: float) -> None:
        self._at.append(now)
