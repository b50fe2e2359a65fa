# SPDX-License-Identifier: GPL-3.0-or-later
"""The replica daemon with short time-outs towards QEMU, for tests only: a QEMU that never answers is to cost a second."""

from __future__ import annotations

from plover.daemon.life import run_daemon
from plover.qemu import colo, qmp, vm
from plover.replica.daemon import Replica

qmp.COMMAND_TIMEOUT_S = colo.TIMEOUT_S = 1.0
vm.CAPTURE_TIMEOUT_S = 1.5
vm.START_TIMEOUT_S = 3.0

if __name__ == "__main__":
    run_daemon(Replica, "replica")
