# SPDX-License-Identifier: GPL-3.0-or-later
"""A secondary with a disk that hangs, dies or was away, and a leader that dies while its secondary is busy with images."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import signal
import time
from collections import Counter
from concurrent import futures
from pathlib import Path

from harness import connect
from plover.errors import ControlError
from test_disks import compared
from test_main_job import lost, write

COPIED_PERCENT, WRITTEN_MIB = 15, 10  # of a copy before it is cut short; by the guest meanwhile, at most


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
        assert group.status("primary")["audit"]["sentence"].startswith("disks")
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
