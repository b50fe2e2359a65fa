# SPDX-License-Identifier: GPL-3.0-or-later
"""``python3 -m plover.witness NAME | SETTINGS-FILE``; ``--prepare NAME``, as root, before its unit starts it as its user."""

from __future__ import annotations

import sys

from ..daemon.life import run_daemon
from . import prepare
from .daemon import Witness

if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] == "--prepare":
        raise SystemExit(prepare.main(sys.argv[2]))
    run_daemon(Witness, "witness")
