# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest that writes to its console without end; a ``/run`` without any room. Neither costs the VM its failover or its daemon."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time

import pytest
from harness import CLIENT_IP, GUEST_IP, connect
from test_main_job import lost, write

from lab import guest_image

RUN_KIB = 4096
CONSOLE_KIB = 16


@pytest.fixture
def group(new_group):
    """The secondary's run folder is a small file system of its own."""
    words = f"{guest_image.CMDLINE.format(ip=GUEST_IP, gw=CLIENT_IP)} debug loglevel=8 initcall_debug"
    out = new_group(guest_console_kib=CONSOLE_KIB, guest_cmdline=words)
    run = out.folder / "secondary" / "run"
    run.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={RUN_KIB}k", "small", str(run)], check=True)
    try:
        out.start()
        out.wait("primary", service="protected")
        yield out
    finally:
        out.stop()
        subprocess.run(["umount", "-l", str(run)], check=True)


def fill(folder) -> None:
    """Until there is no room for a byte."""
    with contextlib.suppress(OSError), open(folder / "filler", "wb", buffering=0) as filler:
        for size in (4096, 1):
            with contextlib.suppress(OSError):
                while True:
                    filler.write(bytes(size))
    assert os.statvfs(folder).f_bavail == 0


def test_a_failover_to_a_host_with_a_full_run_folder_and_a_daemon_that_dies_there(group):
    client, acked = connect(), {}
    write(client, acked, "before", "x")
    fill(group.run_folder("secondary"))
    group.power_off("primary")
    write(client, acked, "after", "y")
    group.wait("secondary", role="leader", service="degraded")
    pid = group.qemu_pid("secondary")
    daemon = group.daemons["secondary"]
    daemon.kill()
    daemon.wait()
    group.start("secondary")
    group.wait("secondary", role="leader", service="degraded")
    assert group.qemu_pid("secondary") == pid, "the daemon takes the QEMU of the one before"
    write(client, acked, "adopted", "z")
    (group.run_folder("secondary") / "filler").unlink()
    group.start("primary")
    group.wait("secondary", service="protected")
    assert lost(client, acked) == []


def test_the_console_stays_small_and_its_end_is_kept(group):
    """The kernel says more than that while it boots."""
    folder = group.log_folder("primary")
    end = time.monotonic() + 10.0
    while not (folder / "console.log.1").exists():
        assert time.monotonic() < end, sorted(path.name for path in folder.iterdir())
        time.sleep(0.1)
    assert (folder / "console.log").stat().st_size <= CONSOLE_KIB << 10
    assert 0 < (folder / "console.log.1").stat().st_size <= CONSOLE_KIB << 10
