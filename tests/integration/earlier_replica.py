# SPDX-License-Identifier: GPL-3.0-or-later
"""The replica daemon, but it tells of no channel for disks, as an earlier version; and its QEMU has no network."""

from __future__ import annotations

from plover.daemon.life import run_daemon
from plover.links import hello
from plover.protocol import wire
from plover.qemu import process
from plover.replica.daemon import Replica

if __name__ == "__main__":
    for channel in (wire.DISKS, wire.DISKS_KEYED):
        del hello.BETWEEN_REPLICAS[channel]
    process.LAUNCHER = "no_network_launch"
    run_daemon(Replica, "replica")
