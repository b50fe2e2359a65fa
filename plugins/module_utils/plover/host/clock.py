# SPDX-License-Identifier: GPL-3.0-or-later
"""The clock that daemons go by: seconds since the boot, those that the host was suspended for among them.

CLOCK_MONOTONIC stands still meanwhile. By it a leader that was suspended for an hour would take the last acknowledgement for
fresh, and speak before it asks whether it still leads. By this one, a suspended host is one that was hung.
"""

from __future__ import annotations

import time


def now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)
