# SPDX-License-Identifier: GPL-3.0-or-later
"""How many examples a property gets: all of them, but a part in ``make test-unit``, which is to answer at once."""

from __future__ import annotations

import os

PART = int(os.environ.get("PLOVER_EXAMPLES_PART", "1"))


def examples(count: int) -> int:
    return max(2, count // PART)
