# SPDX-License-Identifier: GPL-3.0-or-later
"""Paths of the lab's files."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"
# Several labs side by side: each has its own PLOVER_LAB, which is appended to the names of what it makes ("-a").
SUFFIX = os.environ.get("PLOVER_LAB", "")
LAB = BUILD / f"lab{SUFFIX}"
# Outside the checkout, so that a clean clone does not build the base image and the guest anew.
CACHE = Path(os.environ.get("PLOVER_CACHE") or Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "plover")
