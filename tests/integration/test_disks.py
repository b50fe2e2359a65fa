# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest on a real disk, between two real QEMUs: copied, replicated, failed over and back."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import signal
import subprocess
import time
from collections import Counter
from concurrent import futures
from pathlib import Path

import pytest
from harness import CLIENT_IP, GUEST_IP, connect
from plover.errors import ControlError
from test_main_job import STEPS, lost, other, strike_leader, survivor_led, write
from test_operator import past

from lab import disk_check, disk_guest

REPLICAS = ("primary", "secondary")
COPIED_PERCENT, WRITTEN_MIB = 15, 10  # of a copy before it is cut short; by the guest meanwhile, at most


@pytest.fixture
def disk_group(new_group, tmp_path):
    """A function that makes a protected VM that runs from a disk; the secondary's image is empty at first."""

    def make(
        replica: str = "plover.replica",
        secondary: dict | None = None,
        image_folders: dict | None = None,
        state: str = "protected",
        more_cmdline: str = "",
        more_disk: dict | None = None,
        paths: dict | None = None,
        **settings,
    ):
        guest = disk_guest.build()
        images = {member: (image_folders or {}).get(member, tmp_path) / f"{member}.img" for member in REPLICAS}
        if not paths:
            guest.copy_to(images["primary"])
            with open(images["secondary"], "wb") as file:
                os.truncate(file.fileno(), guest.image.stat().st_size)
        images.update(paths or {})
        own = {member: {"disks": [{"path": str(path), "serial": "system", **(more_disk or {})}]} for member, path in images.items()}
        own["secondary"].update(secondary or {})
        group = new_group(
            own=own,
            guest_kernel=str(guest.kernel),
            guest_initrd=str(guest.initrd),
            guest_cmdline=disk_guest.CMDLINE.format(ip=GUEST_IP, gw=CLIENT_IP) + more_cmdline,
            **settings,
        )
        group.images = images
        group.start(replica=replica)
        group.wait("primary", seconds=120, service=state)
        return group

    return make


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


def compared(group) -> tuple[int, int, int]:
    """Pages that differ, that had differed unnoticed, and disk blocks that differ."""
    for _ in range(4):  # on a busy machine the leader may be deposed meanwhile
        report = group.ctl(group.settled(), "audit-disks")
        if report["ok"]:
            break
    assert report["ok"], report
    assert report["disk_blocks"] == disk_guest.IMAGE_MIB << 20 >> 16
    return report["mismatching"], report["untracked"], report["disk_blocks_mismatching"]


def open_files(group, member: str) -> list[str]:
    """Of the member's QEMU: paths, and kinds of what has none."""
    return sorted(str(path.readlink()).partition(":[")[0] for path in Path(f"/proc/{group.qemu_pid(member)}/fd").iterdir())


def more_than(group, member: str, before: list[str], seconds: float = 10.0) -> list[str]:
    """What the member's QEMU has open beyond ``before``. QEMU closes what has ended in its own time, so it is waited for."""
    end = time.monotonic() + seconds
    while more := sorted((Counter(open_files(group, member)) - Counter(before)).elements()):
        if time.monotonic() > end:
            break
        time.sleep(0.2)
    return more


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


def test_a_leader_that_dies_while_images_are_compared_is_followed_at_once(disk_group):
    """However long the secondary still reads its images: it holds the VM's state, and clients wait for it."""
    # These daemons stand still while they write down digests of all memory; on a busy machine, longer than the usual patience.
    group = disk_group(replica="watched_replica", failover_budget_ms=10_000)
    client, acked = connect(), {}
    write(client, acked, "before", "1")
    hold = group.run_folder("secondary") / "hold"
    hold.touch()
    with futures.ThreadPoolExecutor() as pool:
        audit = pool.submit(group.ctl, "primary", "audit-disks")
        while not (group.run_folder("secondary") / "hashing").exists():
            assert not audit.done(), (audit.result(), group.story())
            time.sleep(0.01)
        group.power_off("primary")
        assert isinstance(audit.exception(), ControlError)
    write(client, acked, "after", "2")
    hold.unlink()
    group.start("primary", replica="watched_replica")
    group.wait("secondary", seconds=120, service="protected")
    assert compared(group) == (0, 0, 0) and lost(client, acked) == []


def test_a_secondary_whose_qemu_hangs_is_let_go_and_filled_again(disk_group):
    """The leader's VM waits for its disk writes there; it goes on once the secondary is given up."""
    group = disk_group()
    client, acked = connect(), {}
    write(client, acked, "a", "1")
    pid = group.qemu_pid("secondary")
    os.kill(pid, signal.SIGSTOP)
    try:
        write(client, acked, "b", "2")
        write(client, acked, "c", "3")
        status = group.wait("primary", seconds=20, service="degraded")
        assert "secondary" in status["reason"] and status["role"] == "leader"
    finally:
        with contextlib.suppress(ProcessLookupError):  # its daemon has ended it by now
            os.kill(pid, signal.SIGCONT)
    group.wait("primary", seconds=90, service="protected")
    write(client, acked, "d", "4")
    assert compared(group) == (0, 0, 0) and lost(client, acked) == []


def test_a_secondary_that_comes_back_gets_only_what_changed(disk_group):
    """After a restart, and after a power loss; a former leader gets a whole copy."""
    group = disk_group()
    client, acked, files = connect(), {}, []
    for n in range(3):
        write(client, acked, f"together{n}", "x" * 10_000)
        end = time.monotonic() + 10
        while not os.listxattr(group.images["secondary"]):
            assert time.monotonic() < end
            time.sleep(0.05)
        group.power_off("secondary") if n else group.kill_qemu("secondary")
        write(client, acked, f"alone{n}", "y" * 10_000)
        if n:
            group.start("secondary")
        group.wait("primary", seconds=60, service="degraded")
        group.wait("primary", seconds=60, service="protected")
        assert group.log("primary").count("disks: sending what changed since copy") == n + 1, group.log("primary")[-1500:]
        assert compared(group) == (0, 0, 0)
        files = files or open_files(group, "primary")
    assert group.log("primary").count("disks: sending all, 384.0 MiB") == 1
    assert more_than(group, "primary", files) == []  # no socket or image of those that went is left
    group.power_off("primary")
    write(client, acked, "there", "z")
    group.start("primary")
    group.wait("secondary", seconds=60, service="protected")
    assert "disks: sending all, 384.0 MiB" in group.log("secondary")
    assert compared(group) == (0, 0, 0) and lost(client, acked) == []


def copied_percent(sentence: str) -> int:
    found = re.search(r"filling secondary: copy.* (\d+) %", sentence)
    return int(found[1]) if found else 0


def test_a_secondary_that_dies_in_mid_copy_costs_the_guest_nothing(disk_group):
    """And the copy goes on where it was."""
    group = disk_group(state="degraded", disk_copy_mib_per_s=30)
    client, acked, left_mib = connect(), {}, [384.0]
    for turn in range(2):
        end = time.monotonic() + 30
        while copied_percent(sentence := group.status("primary")["sentence"]) < COPIED_PERCENT:
            assert time.monotonic() < end, sentence
            time.sleep(0.05)
        assert " MiB)" in sentence
        write(client, acked, f"copying{turn}", "x" * 100_000)
        group.power_off("secondary")
        for n in range(30):
            write(client, acked, f"{turn}k{n}", "y" * 100_000)
        group.start("secondary")
        group.wait_for_log("primary", "disks: sending what changed since copy", times=turn + 1)
        left_mib.append(float(group.log("primary").rsplit("disks: sending what changed since copy", 1)[1].split()[1]))
    for before, after in itertools.pairwise(left_mib):
        assert after < before * (100 - COPIED_PERCENT) / 100 + WRITTEN_MIB, left_mib
    group.wait("primary", seconds=90, service="protected")
    assert compared(group) == (0, 0, 0) and lost(client, acked) == []


def test_much_that_changed_while_the_secondary_was_away_is_sent_while_the_vm_serves(disk_group):
    group = disk_group()
    client = connect()
    end = time.monotonic() + 10
    while b"@" in (name := os.getxattr(group.images["secondary"], "user.plover.copy")):  # until it is whole
        assert time.monotonic() < end, name
        time.sleep(0.05)
    group.power_off("secondary")
    group.wait("primary", seconds=20, service="degraded")
    for n in range(40):
        assert client.ask("SET", f"big{n % 4}", os.urandom(1 << 19).hex()) == b"+OK"
    group.start("secondary")
    group.wait("primary", seconds=60, service="protected")
    log = group.log("primary")
    sent_mib = float(log.rsplit(f"disks: sending what changed since copy {name.decode()}, ", 1)[1].split()[0])
    assert 40 < sent_mib < 200, log[-1500:]
    assert compared(group) == (0, 0, 0)


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
