# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks that fail, and hosts that lose power at the wrong moment: what may be booted or copied then, and what not."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest
from harness import REPLICAS, connect
from test_disks import compared
from test_main_job import lost, other, write

from lab import disk_guest


@pytest.fixture
def lying_disk(tmp_path):
    """A file system whose writes succeed, as long as nobody asks whether they got to the disk: a loop device over a tmpfs
    that is too small. Returns its folder, and a function that mends it."""
    back, folder, size_mib = tmp_path / "back", tmp_path / "lying", 2 * disk_guest.IMAGE_MIB
    for path in (back, folder):
        path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "back", str(back)], check=True)
    with open(back / "disk", "wb") as file:
        os.truncate(file.fileno(), size_mib << 20)
    loop = subprocess.run(
        ["losetup", "--find", "--show", "--direct-io=off", str(back / "disk")], check=True, capture_output=True, text=True
    ).stdout.strip()
    subprocess.run(["mkfs.ext4", "-q", "-O", "^has_journal", "-E", "lazy_itable_init=0", "-N", "64", loop], check=True)
    subprocess.run(["mount", "-o", "errors=continue", loop, str(folder)], check=True)
    yield folder, lambda: subprocess.run(["mount", "-o", f"remount,size={size_mib + 64}m", str(back)], check=True)
    subprocess.run(["umount", "-l", str(folder)], check=True)
    subprocess.run(["losetup", "--detach", loop], check=True)
    subprocess.run(["umount", "-l", str(back)], check=True)


def mark(path: Path) -> str:
    try:
        return os.getxattr(path, "user.plover.mark").decode()
    except OSError:
        return ""


def until(what, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.002)


def test_a_copy_that_did_not_get_to_the_disk_is_none(disk_group, lying_disk):
    """The secondary starts over, and once its disk works gets everything again: its cache may have dropped any of it."""
    folder, mend = lying_disk
    group = disk_group(image_folders={"secondary": folder}, state="degraded")
    client, acked, image = connect(), {}, folder / "secondary.img"
    until(lambda: mark(image).startswith("missed "), 60.0)  # until the next copy begins, a second later or more
    group.wait_for_log("secondary", "this host's disks lost what was copied to them: ", seconds=60)
    assert "user.plover.copy" not in os.listxattr(image)
    write(client, acked, "alone", "x" * 1000)
    mend()
    group.wait("primary", seconds=120, service="protected")
    until(lambda: mark(image).startswith("whole "))
    assert group.log("primary").count("disks: sending all, 384.0 MiB") >= 2
    assert "sending what changed" not in group.log("primary")
    write(client, acked, "together", "y" * 1000)
    assert compared(group) == (0, 0, 0) and lost(client, acked) == []
    assert group.status("secondary")["disks"][0]["state"] == "whole"
    assert group.status("primary")["disks"][0]["state"] == "live"


def off_in_mid_merge(group, acked: dict) -> str:
    """Both replicas are off, the one that led last while its overlays were being merged. Returns that one."""
    for turn in range(6):
        leader, client = group.settled(), connect()
        for n in range(10):
            write(client, acked, f"t{turn}k{n}", str(n) * 30_000)
        client.close()
        follower = other(leader)
        seen = group.log(follower).count("serving in view")
        group.power_off(leader)
        until(lambda member=follower, times=seen: group.log(member).count("serving in view") > times)
        group.power_off(follower)
        if mark(group.images[follower]).startswith("merging "):
            return follower
        group.start(*REPLICAS)
        for member in REPLICAS:  # it ended too soon
            group.wait(member, seconds=30, service="down")
        assert group.ctl(follower, "cold-start")["ok"]
    raise AssertionError("no merge was met")


def test_an_image_that_was_being_merged_into_is_not_booted_and_the_whole_one_not_overwritten(disk_group):
    group, acked = disk_group(), {}
    torn = off_in_mid_merge(group, acked)
    whole = other(torn)
    group.start(*REPLICAS)
    for member in REPLICAS:
        group.wait(member, seconds=30, service="down", role="idle")
    reply = group.ctl(torn, "cold-start")
    assert not reply["ok"] and "refused: disks[0] is torn: its VM's last writes were being merged into it" in reply["error"]
    until(lambda: "the VM must not be booted from here" in group.status(torn)["sentence"])
    assert group.status(torn)["disks"][0]["torn"] and not group.status(whole)["disks"][0]["torn"]
    assert any("THE DISK IS DAMAGED" in text for text in group.ctl(torn, "cold-start-price")["price"])
    before = mark(group.images[whole])
    time.sleep(2.0)
    assert mark(group.images[whole]) == before and group.status(whole)["role"] == "idle"
    assert group.ctl(whole, "cold-start-force")["ok"]
    until(lambda: group.ctl(whole, "failover-force")["ok"])
    group.wait(whole, seconds=120, service="protected", role="leader")
    client = connect()
    assert lost(client, acked) == []  # all was acknowledged before the failover
    until(lambda: mark(group.images[torn]).startswith("whole "))
    assert compared(group) == (0, 0, 0)
