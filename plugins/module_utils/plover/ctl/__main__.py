# SPDX-License-Identifier: GPL-3.0-or-later
"""``python3 -m plover.ctl``: ploverctl."""

from __future__ import annotations

from .commands import main

if __name__ == "__main__":
    raise SystemExit(main())
