# SPDX-License-Identifier: GPL-3.0-or-later
"""Fuzzing of every decoder: ``make fuzz``. How it works is in docs/testing.md, "Fuzzing".

`target` says what a decoder promises; `targets/` has them all. `trail` marks the code under test, `mutate` makes inputs, `engine` keeps
those that reach new code and saves those that break a promise. `native` does the same for the C library.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
for folder in (ROOT, ROOT / "plugins" / "module_utils", ROOT / "tests" / "unit" / "support"):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

import tests.conftest  # noqa: E402, F401  the checkout under the collection's own name
