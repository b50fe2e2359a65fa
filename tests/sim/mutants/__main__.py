# SPDX-License-Identifier: GPL-3.0-or-later
"""See search.py."""

from __future__ import annotations

import sys

from .search import main

if __name__ == "__main__":
    sys.exit(main())
