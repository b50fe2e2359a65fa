# SPDX-License-Identifier: GPL-3.0-or-later
"""Debian's AppArmor, unpacked into the cache and never installed: its parser is one file that runs anywhere."""

from __future__ import annotations

import functools
import hashlib
import shutil
from pathlib import Path

from .guest_image import make, versions
from .paths import CACHE

PACKAGE = "apparmor"
PARSER = "sbin/apparmor_parser"
RULES = "etc/apparmor.d"


@functools.cache
def tree() -> Path:
    """Of today's Debian package, from the cache if possible."""
    packages = versions([PACKAGE])
    target = CACHE / f"apparmor-{hashlib.sha256(packages[0].encode()).hexdigest()[:12]}"
    if not (target / PARSER).exists():
        make(target, packages, lambda tree, out: shutil.copytree(tree, out, symlinks=True, dirs_exist_ok=True))
    return target
