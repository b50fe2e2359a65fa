# SPDX-License-Identifier: GPL-3.0-or-later
"""promtool, Prometheus' own checker of rules, from Debian's package: unpacked into the cache, nothing is installed."""

from __future__ import annotations

import functools
import hashlib
import shutil
from pathlib import Path

from .guest_image import make, versions
from .paths import CACHE

PACKAGE = "prometheus"
PROMTOOL = "usr/bin/promtool"


@functools.cache
def promtool() -> Path:
    """The program of today's Debian package, from the cache if possible."""
    packages = versions([PACKAGE])
    target = CACHE / f"promtool-{hashlib.sha256(packages[0].encode()).hexdigest()[:12]}"
    if not (target / "promtool").exists():
        make(target, packages, lambda tree, out: shutil.copy(tree / PROMTOOL, out))
    return target / "promtool"
