# SPDX-License-Identifier: GPL-3.0-or-later
"""The daemons' clock: seconds since the boot, including time in which the host was suspended.

CLOCK_MONOTONIC does not count suspended time. A leader that was suspended for an hour would take its last acknowledgement for
fresh, and speak before it asks whether it still leads. By this clock, a suspended host is like one that hung.
"""

from __future__ import annotations

import time


def now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)
