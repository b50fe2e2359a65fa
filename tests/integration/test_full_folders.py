# SPDX-License-Identifier: GPL-3.0-or-later
"""A file system of a replica fills up under a protected VM: the state folder, or /dev/shm. It ends in a state that says why, and
nothing that was acknowledged is lost. (/run: test_full_run_folder.py; overlays: test_disks.py.)"""

from __future__ import annotations

import os
import subprocess
import time

import pytest
from harness import connect
from test_full_run_folder import fill
from test_main_job import lost, other, write

STATE_KIB, SHM_MIB = 1024, 288  # a little more than the guest's RAM
KEY_BYTES, KEYS = 100_000, 400


@pytest.fixture
def full_group(new_group, tmp_path):
    """A function: a protected group of which ``member`` has its folder ``kind`` on a small file system. (group, folder)."""
    mounted = []

    def make(member: str, kind: str, size: str):
        folder = tmp_path / f"small-{kind}"
        folder.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "small", str(folder)], check=True)
        mounted.append(folder)
        group = new_group(own={member: {f"{kind}_dir": str(folder)}})
        group.start()
        group.wait("primary", service="protected")
        return group, folder

    yield make
    for folder in mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def revive(group, member: str) -> None:
    """As its unit would: a daemon that ended is started again."""
    daemon = group.daemons[member]
    if daemon.poll() is not None:
        group.start(member)


def protected_again(group, member: str, seconds: float = 90.0) -> str:
    """Who leads then."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        revive(group, member)
        for name in ("primary", "secondary"):
            status = group.status(name)
            if status.get("role") == "leader" and status.get("service") == "protected":
                return name
        time.sleep(0.2)
    raise AssertionError(group.story())


@pytest.mark.parametrize("member", ["primary", "secondary"])
def test_a_full_state_folder_stops_a_member_that_cannot_keep_its_word_and_says_so(full_group, member):
    group, folder = full_group(member, "state", f"{STATE_KIB}k")
    client, acked = connect(), {}
    write(client, acked, "before", "x")
    fill(folder)
    write(client, acked, "full", "y")  # nothing needs the disk for that
    group.power_off(other(member))  # now a promise is due: the record, or a vote
    group.wait_for_log(member, "No space left on device")
    group.start(other(member))
    (folder / "filler").unlink()
    protected_again(group, member)
    client = connect()
    write(client, acked, "after", "z")
    assert lost(client, acked) == []


@pytest.mark.parametrize("member", ["primary", "secondary"])
def test_a_full_shm_costs_that_copy_at_most(full_group, member):
    """The guest touches memory for which there is no room: its QEMU or the daemon that applies a page there ends, nobody else."""
    group, folder = full_group(member, "shm", f"{SHM_MIB}m")
    client, acked = connect(), {}
    write(client, acked, "before", "x")
    fill(folder)
    for n in range(KEYS):
        try:
            write(client, acked, f"k{n}", str(n) * (KEY_BYTES // len(str(n))))
        except (OSError, AssertionError):
            client = connect()
    assert lost(client, acked) == []
    os.unlink(folder / "filler")
    protected_again(group, member)
    client = connect()
    write(client, acked, "after", "z")
    assert lost(client, acked) == []
