# SPDX-License-Identifier: GPL-3.0-or-later
"""pgbench's tables on the lab's disk, made once and kept in the cache: every group begins with the same ones."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from pg8000.native import Connection

from .groups import Group
from .guests import folder_of_disks, guest, with_tables
from .hosts import GUEST_IP
from .workloads import DATABASE, SCALE, TIMEOUT_S, pgbench


def make() -> None:
    """By a VM on the benchmark's hosts, unprotected. Raises BenchError."""
    wanted = guest("disk")
    target = with_tables(wanted.disk)
    if wanted.disk.image == target:
        return
    print(f"bench-services: pgbench's tables, scale {SCALE}, are made once", flush=True)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder, folder_of_disks() as disks:
        group = Group("unprotected", Path(folder), 1, wanted, Path(disks))
        try:
            pgbench("-i", "-q", "-s", SCALE)
            connection = Connection("postgres", host=GUEST_IP, database=DATABASE, timeout=TIMEOUT_S)
            with contextlib.closing(connection):
                connection.run("CHECKPOINT")  # the next start has nothing to repair
        finally:
            group.stop()
        partial = target.with_suffix(f".{os.getpid()}")
        wanted.disk._replace(image=Path(disks, "primary.img")).copy_to(partial)
        partial.chmod(0o444)
        partial.rename(target)
