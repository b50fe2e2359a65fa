# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest on a real disk, between two real QEMUs: copied, replicated, failed over and back."""

from __future__ import annotations

import os
from pathlib import Path

from harness import REPLICAS, connect
from test_main_job import STEPS, lost, other, strike_leader, survivor_led, write

from lab import disk_check, disk_guest


def compared(group) -> tuple[int, int, int]:
    """Pages that differ, that had differed unnoticed, and disk blocks that differ."""
    report = group.audit(disks=True)
    assert report["disk_blocks"] == disk_guest.IMAGE_MIB << 20 >> 16
    return report["mismatching"], report["untracked"], report["disk_blocks_mismatching"]


def overlays(group, member: str) -> list[Path]:
    return list(Path(f"/dev/shm/plover-test-{os.getpid()}", member).glob("*.disks/*"))


def test_what_a_client_was_told_is_on_the_disk_after_a_failover_and_back(disk_group):
    group, acked = disk_group(), {}
    client = connect()
    leader = "primary"
    for turn in range(3):
        for n in range(40):
            write(client, acked, f"t{turn}k{n}", str(n) * 30)
        assert compared(group) == (0, 0, 0)
        group.power_off(leader)
        leader = other(leader)
        write(client, acked, f"after{turn}", "x")
        assert lost(client, acked) == []
        group.start(other(leader))
        group.wait(leader, seconds=120, service="protected")
    write(client, acked, "end", "x")
    assert lost(client, acked) == []


def test_kill_9_of_the_leaders_qemu_in_each_step_with_a_disk(disk_group):
    """A failover in each step of a syncvm, there and back: the disk is as the VM that goes on left it, and nothing leaks."""
    group = disk_group(replica="watched_replica", more_cmdline=" plover.sqlite")
    client, acked = connect(), {}
    for n, step in enumerate(["Load", *STEPS]):
        write(client, acked, f"before{n}", step)
        if step == "Load":
            leader = group.settled()
            view = group.status(leader)["view"]
            group.power_off(leader)
            group.start(leader, replica="watched_replica")
            write(client, acked, f"in{n}", step)
        else:
            view, leader = strike_leader(group, step, lambda name, step=step: write(client, acked, name, step))
        group.settled(after_view=view)
        assert survivor_led(group, view, leader), group.log("witness")[-2000:]
        assert lost(client, acked) == [], step
        assert compared(group) == (0, 0, 0), step
    leader = group.settled()
    for member in REPLICAS:  # one QEMU each, whose graph has what it needs and nothing of those before
        assert sorted(path.name for path in overlays(group, member)) == ([] if member == leader else ["active0.qcow2", "hidden0.qcow2"])
    for member in (other(leader), leader):
        group.power_off(member)
    # The one that led last has what the guest wrote: its file system is whole, and so is SQLite's history of ten lives.
    assert disk_check.check_image(group.images[leader]) == []


def test_switchovers_there_and_back_with_a_disk(disk_group):
    """Nothing is lost, both disks are equal after each, and each host has one QEMU with the overlays of its role."""
    group = disk_group()
    client, acked, leader = connect(), {}, "primary"
    for turn in range(6):
        for n in range(20):
            write(client, acked, f"t{turn}k{n}", str(n) * 500)
        reply = group.ctl(leader, "switchover")
        assert reply["ok"], (reply, group.log(leader)[-1500:])
        leader = other(leader)
        write(client, acked, f"after{turn}", "x")
        assert group.settled() == leader and lost(client, acked) == []
        assert compared(group) == (0, 0, 0)
        assert overlays(group, leader) == [] and len(overlays(group, other(leader))) == 2
        assert group.qemu_pid(leader) != group.qemu_pid(other(leader))
