# SPDX-License-Identifier: GPL-3.0-or-later
"""``python3 -m plover.witness NAME | SETTINGS-FILE``."""

from __future__ import annotations

from ..daemon.life import run_daemon
from .daemon import Witness

if __name__ == "__main__":
    run_daemon(Witness, "witness")
