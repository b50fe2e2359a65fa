# SPDX-License-Identifier: GPL-3.0-or-later
"""What a benchmark says of the machine that it was run on."""
from __future__ import annotations

import platform
from pathlib import Path


def cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
