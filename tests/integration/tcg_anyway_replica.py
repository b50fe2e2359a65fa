# SPDX-License-Identifier: GPL-3.0-or-later
"""The replica daemon without its refusal of TCG where QEMU keeps translated code over a load: to test the dialect up to there."""

from __future__ import annotations

from plover.daemon.life import run_daemon
from plover.qemu.vm import Vm
from plover.replica.daemon import Replica

Vm._check_dialect = lambda self, version: None

if __name__ == "__main__":
    run_daemon(Replica, "replica")
