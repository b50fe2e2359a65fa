# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest on a real disk, between two real QEMUs: copied, replicated, failed over and back."""
from __future__ import annotations

import os

import pytest
from harness import CLIENT_IP, GUEST_IP, connect
from test_main_job import lost, other, write

from lab import disk_guest

REPLICAS = ("primary", "secondary")


@pytest.fixture
def disk_group(new_group, tmp_path):
    """A protected VM that runs from a disk; the secondary's image is empty at first."""
    guest, images = disk_guest.build(), {member: tmp_path / f"{member}.img" for member in REPLICAS}
    guest.copy_to(images["primary"])
    with open(images["secondary"], "wb") as file:
        os.truncate(file.fileno(), guest.image.stat().st_size)
    group = new_group(
        own={member: {"disks": [{"path": str(path), "serial": "system"}]} for member, path in images.items()},
        guest_kernel=str(guest.kernel), guest_initrd=str(guest.initrd),
        guest_cmdline=disk_guest.CMDLINE.format(ip=GUEST_IP, gw=CLIENT_IP), disk_port=7421)
    group.images = images
    group.start()
    group.wait("primary", seconds=120, service="protected")
    return group


def test_what_a_client_was_told_is_on_the_disk_after_a_failover_and_back(disk_group):
    group, acked = disk_group, {}
    client = connect()
    leader = "primary"
    for turn in range(3):
        for n in range(40):
            write(client, acked, f"t{turn}k{n}", str(n) * 30)
        report = group.ctl(leader, "audit-disks")
        assert report["ok"], report
        assert (report["mismatching"], report["untracked"], report["disk_blocks_mismatching"]) == (0, 0, 0)
        assert report["disk_blocks"] == 384 << 20 >> 16
        group.power_off(leader)
        leader = other(leader)
        write(client, acked, f"after{turn}", "x")
        assert lost(client, acked) == []
        group.start(other(leader))
        group.wait(leader, seconds=120, service="protected")
    write(client, acked, "end", "x")
    assert lost(client, acked) == []
