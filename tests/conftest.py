# SPDX-License-Identifier: GPL-3.0-or-later
"""The checkout's packages on sys.path, for all tests."""
from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
for folder in ("plugins/module_utils", "plugins/modules", "."):
    sys.path.insert(0, str(ROOT / folder))
