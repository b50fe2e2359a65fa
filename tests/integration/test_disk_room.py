# SPDX-License-Identifier: GPL-3.0-or-later
"""Overlays and images that have no room left."""

from __future__ import annotations

import contextlib
import subprocess
import time
from pathlib import Path

import pytest
from harness import connect
from test_disks import compared
from test_main_job import lost, write
from test_operator import past

from lab import disk_guest


@pytest.fixture
def small_tmpfs(tmp_path):
    """A function that mounts a tmpfs of the given size in MiB."""
    mounted: list[Path] = []

    def make(mib: int) -> Path:
        folder = tmp_path / "small"
        folder.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mib}m", "small", str(folder)], check=True)
        mounted.append(folder)
        return folder

    yield make
    for folder in mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill_up(folder: Path) -> Path:
    """A file that takes all the room that is left."""
    with contextlib.suppress(OSError), open(folder / "filler", "wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    return folder / "filler"


def test_overlays_that_fill_up_force_syncvms(disk_group, small_tmpfs):
    folder = small_tmpfs(24)
    group = disk_group(secondary={"disk_overlay_dir": str(folder)}, disk_overlay_mib=24, syncvm_interval_ms_max=60_000)
    client = connect()
    for n in range(60):
        assert client.ask("SET", f"big{n % 4}", "x" * (1 << 20)) == b"+OK"
    status = group.status("primary")
    assert status["service"] == "protected", group.log("primary")[-2000:]
    assert [e["mode"] for e in past(group, "primary") if e["kind"] == "mode"][-1] == "protected"
    assert compared(group) == (0, 0, 0)


def test_a_full_overlay_costs_the_protection_and_says_so(disk_group, small_tmpfs):
    folder = small_tmpfs(2)
    group = disk_group(secondary={"disk_overlay_dir": str(folder)})
    filler = fill_up(folder)
    client = connect()
    for n in range(40):
        assert client.ask("SET", f"big{n % 8}", "x" * (1 << 20)) == b"+OK"
    group.wait_for_log("primary", "degraded: ")
    filler.unlink()
    group.wait("primary", seconds=90, service="protected")
    assert compared(group) == (0, 0, 0)


def test_too_little_room_for_the_secondarys_image_is_said_and_then_mended(disk_group, small_tmpfs):
    folder = small_tmpfs(100)
    group = disk_group(image_folders={"secondary": folder}, state="degraded")
    client = connect()
    assert client.ask("SET", "k", "v") == b"+OK"
    end = time.monotonic() + 20
    while "No space left on device; trying again in" not in (reason := group.status("primary")["reason"]):
        assert time.monotonic() < end, reason
        time.sleep(0.1)
    subprocess.run(["mount", "-o", f"remount,size={disk_guest.IMAGE_MIB + 60}m", str(folder)], check=True)
    group.wait("primary", seconds=90, service="protected")
    assert client.ask("GET", "k") == b"v" and compared(group) == (0, 0, 0)


def test_a_leader_whose_own_image_fails_hands_over(disk_group, small_tmpfs):
    """Its writes are on the secondary's image, so the guest sees no error, and clients neither."""
    folder = small_tmpfs(disk_guest.IMAGE_MIB)
    group = disk_group(image_folders={"primary": folder})
    fill_up(folder)  # the image's holes cannot be written any more
    client, acked = connect(), {}
    for n in range(40):
        write(client, acked, f"big{n % 8}", f"{n:04}" * (1 << 18))
        if group.status("secondary")["role"] == "leader":
            break
    group.wait("secondary", seconds=20, role="leader")
    assert "this host's image fails (image0: No space left on device" in group.log("primary")
    write(client, acked, "after", "x")
    assert lost(client, acked) == []
