# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks other than raw files: qcow2 images, and block devices."""

from __future__ import annotations

import os
import subprocess

import pytest
from harness import REPLICAS, connect
from test_main_job import lost, other, write

from lab import disk_check, disk_guest


@pytest.fixture
def loop_devices(tmp_path):
    """A block device for each replica; the primary's has the guest's disk."""
    devices = {}
    for member in REPLICAS:
        image = tmp_path / f"{member}.loop"
        if member == "primary":
            disk_guest.build().copy_to(image)
        else:
            with open(image, "wb") as file:
                os.truncate(file.fileno(), disk_guest.IMAGE_MIB << 20)
        devices[member] = subprocess.run(
            ["losetup", "--find", "--show", "--direct-io=off", str(image)], check=True, capture_output=True, text=True
        ).stdout.strip()
    yield devices
    for device in devices.values():
        subprocess.run(["losetup", "--detach", device], check=True)


def failed_over_and_back(group) -> str:
    """A client's writes outlive each leader. Returns the last leader; the other host is gone."""
    client, acked, leader = connect(), {}, "primary"
    for turn in range(2):
        for n in range(30):
            write(client, acked, f"t{turn}k{n}", str(n) * 1000)
        group.power_off(leader)
        leader = other(leader)
        write(client, acked, f"after{turn}", "x")
        assert lost(client, acked) == []
        group.start(other(leader))
        group.wait(leader, seconds=120, service="protected")
    write(client, acked, "end", "x")
    return group.settled()


def test_qcow2(disk_group, tmp_path):
    """Failed over and back; a secondary that was away gets what changed; both images are whole and equal at the end."""
    images = {member: tmp_path / f"{member}.qcow2" for member in REPLICAS}
    guest = disk_guest.build()
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", str(guest.image), str(images["primary"])], check=True)
    size = f"{disk_guest.IMAGE_MIB}M"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(images["secondary"]), size], check=True)
    group = disk_group(paths=images, more_disk={"format": "qcow2"})
    leader = failed_over_and_back(group)
    group.kill_qemu(other(leader))
    group.wait(leader, seconds=20, service="degraded")
    group.wait(leader, seconds=60, service="protected")
    assert "disks: sending what changed since copy" in group.log(leader)
    assert "only raw images are compared" in group.ctl(leader, "audit-disks")["error"]
    for member in (other(leader), leader):
        group.power_off(member)
        subprocess.run(["qemu-img", "check", "-q", "-r", "leaks", str(images[member])], check=False)
        assert subprocess.run(["qemu-img", "check", "-q", str(images[member])], check=False).returncode == 0
    raw = tmp_path / "end.img"
    subprocess.run(["qemu-img", "convert", "-O", "raw", str(images[leader]), str(raw)], check=True)
    assert disk_check.check_image(raw) == []


def test_block_devices(disk_group, loop_devices, tmp_path):
    """They carry no note whose copy they are, so a secondary that comes back gets all of it."""
    group = disk_group(paths=loop_devices, more_disk={"cache": "none"})
    leader = failed_over_and_back(group)
    report = group.audit(disks=True)
    assert (report["mismatching"], report["untracked"], report["disk_blocks_mismatching"]) == (0, 0, 0), report
    assert report["disk_blocks"] == disk_guest.IMAGE_MIB << 20 >> 16
    group.kill_qemu(other(leader))
    group.wait(leader, seconds=20, service="degraded")
    group.wait(leader, seconds=90, service="protected")
    assert "disks: sending what changed" not in group.log(leader)
    for member in (other(leader), leader):
        group.power_off(member)
    assert disk_check.check_image(tmp_path / f"{leader}.loop") == []
