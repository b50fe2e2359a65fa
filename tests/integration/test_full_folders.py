# SPDX-License-Identifier: GPL-3.0-or-later
"""A file system of a replica fills up under a protected VM: the state folder, or /dev/shm. It costs nothing that was
acknowledged, and where a VM has no room to start, the reason is told. (/run: test_full_run_folder.py; overlays: test_disks.py.)"""

from __future__ import annotations

import subprocess

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
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=711", "small", str(folder)], check=True)
        mounted.append(folder)
        group = new_group(own={member: {f"{kind}_dir": str(folder)}})
        group.start()
        group.wait("primary", service="protected")
        return group, folder

    yield make
    for folder in mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("member", ["primary", "secondary"])
def test_a_member_with_a_full_state_folder_votes_and_leads(full_group, member):
    group, folder = full_group(member, "state", f"{STATE_KIB}k")
    client, acked = connect(), {}
    write(client, acked, "before", "x")
    fill(folder)
    group.power_off(other(member))  # now a promise is due: a record, or a vote
    write(client, acked, "alone", "y")
    group.wait_for_log(member, "is full; the room kept for the member's state is used")
    group.start(other(member))
    assert group.settled() == member
    write(client, acked, "after", "z")
    assert lost(client, acked) == []


@pytest.mark.parametrize("member", ["primary", "secondary"])
def test_a_full_shm_costs_nothing_as_guest_memory_is_reserved(full_group, member):
    """The guest touches memory that it never had; then the other host dies."""
    group, folder = full_group(member, "shm", f"{SHM_MIB}m")
    client, acked = connect(), {}
    write(client, acked, "before", "x")
    fill(folder)
    for n in range(KEYS):
        write(client, acked, f"k{n}", str(n) * (KEY_BYTES // len(str(n))))
    assert group.status("primary")["service"] == "protected"
    group.power_off(other(member))
    write(client, acked, "after", "z")
    group.start(other(member))
    assert group.settled() == member
    assert lost(client, acked) == []


def test_a_host_without_room_for_the_guests_memory_says_so(new_group, tmp_path):
    """Its daemon stays, and the other host's VM serves."""
    folder = tmp_path / "small-shm"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m,mode=711", "small", str(folder)], check=True)
    try:
        group = new_group(own={"secondary": {"shm_dir": str(folder)}})
        group.start()
        group.wait("primary", service="degraded")
        group.wait_for_log("secondary", f"shm_dir: {folder} has 64 MiB free, and the VM's memory takes")
        assert connect().ask("SET", "alone", "1") == b"+OK"
        subprocess.run(["mount", "-o", "remount,size=1g,mode=711", str(folder)], check=True)
        group.wait("primary", seconds=90, service="protected")
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
