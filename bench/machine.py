# SPDX-License-Identifier: GPL-3.0-or-later
"""Facts about the machine, for a benchmark's result."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def busy_s() -> float:
    """CPU seconds that all processes of the machine took so far, on all its cores."""
    user, nice, system, _, _, *rest = (int(ticks) for ticks in Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + sum(rest)) / os.sysconf("SC_CLK_TCK")
