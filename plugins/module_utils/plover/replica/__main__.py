# SPDX-License-Identifier: GPL-3.0-or-later
"""``python3 -m plover.replica NAME | SETTINGS-FILE``."""

from __future__ import annotations

from ..daemon.life import run_daemon
from .daemon import Replica

if __name__ == "__main__":
    run_daemon(Replica, "replica")
