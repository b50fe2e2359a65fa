# SPDX-License-Identifier: GPL-3.0-or-later
"""The replica daemon, but it takes any kernel: for the test of what an audit sees of one that must be refused."""

from __future__ import annotations

from plover.daemon.life import run_daemon
from plover.qemu import kernel_image
from plover.replica.daemon import Replica

if __name__ == "__main__":
    kernel_image.check = lambda path: None
    run_daemon(Replica, "replica")
