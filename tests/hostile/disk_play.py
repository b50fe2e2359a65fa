# SPDX-License-Identifier: GPL-3.0-or-later
"""One case: a disk fails; nothing that a client was told is lost, and nobody calls the VM protected by an image that is not whole."""

from __future__ import annotations

import contextlib
import time

import harness
from disk_cases import COPIED, MERGED, OWN, Case
from faulty_disk import FLUSH, REPLICAS, FaultyDiskGroup
from plover.errors import ControlError
from test_main_job import lost

STRIKES_S, TELLS_S, HOLDS_S, BURST_S = 30.0, 15.0, 2.0, 0.1
TORN = ("incomplete", "missed", "merging")
STOPPED = "QEMU has stopped the VM at an error of its disk"
TOLD = "no other host is in sync; see to it now"  # the guest has got the error: it knows that its write is not done
SAYS_SO = ("not merged", "torn", "lost what was written", "stands still")


class Writer:
    """A client that remembers every acknowledged write."""

    def __init__(self, client: harness.Redis) -> None:
        self.client, self.acked, self._count, self._unheard = client, {}, 0, {}

    def write(self) -> None:
        self._count += 1
        name, value = f"k{self._count % 40}", f"{self._count:06}" * 500
        assert self.client.ask("SET", name, value) == b"+OK"
        self.acked[name] = value

    def burst(self) -> None:
        """Send many writes without waiting for answers, so that the secondary's overlays have them at a failover."""
        self._unheard = {f"burst{n}": f"{self._count:06}" * 10_000 for n in range(20)}
        self.client.sock.sendall(
            b"".join(
                b"*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n" % (len(name), name.encode(), len(value), value.encode())
                for name, value in self._unheard.items()
            )
        )

    def hear(self) -> None:
        """The answers to the burst."""
        while self._unheard:
            assert self.client.file.readline() == b"+OK\r\n"
            name = next(iter(self._unheard))
            self.acked[name] = self._unheard.pop(name)

    def check(self) -> None:
        """What was written last and not answered may be there, or not."""
        assert lost(self.client, {name: value for name, value in self.acked.items() if name not in self._unheard}) == []


def struck(group: FaultyDiskGroup, writer: Writer, victim: str) -> None:
    """Until the fault has happened."""
    end = time.monotonic() + STRIKES_S
    while not group.faults[victim].failed:
        assert time.monotonic() < end, f"no such call came by: {group.faults[victim].seen}"
        writer.write()
        time.sleep(0.02)


def is_told(group: FaultyDiskGroup, writer: Writer, victim: str) -> None:
    """The image is marked, and as long as its disk fails no other word is heard of it."""
    end = time.monotonic() + TELLS_S
    while group.mark(victim) not in TORN:
        assert time.monotonic() < end, f"{victim}'s image is said to be {group.mark(victim)!r}"
        writer.write()
    end = time.monotonic() + HOLDS_S
    while time.monotonic() < end:
        writer.write()
        assert group.mark(victim) in TORN, f"{victim}'s image is said to be {group.mark(victim)!r}"
        assert not group.leads("protected")
        time.sleep(0.05)


def is_filled_anew(group: FaultyDiskGroup, writer: Writer, victim: str, pid: int) -> None:
    """By another QEMU, even if its disk failed only once."""
    end = time.monotonic() + TELLS_S
    while True:
        with contextlib.suppress(ProcessLookupError):
            if group.qemu_pid(victim) != pid:
                return
        assert time.monotonic() < end, f"{victim} goes on with an image that may lack something"
        writer.write()


def play_one_of_two(group: FaultyDiskGroup, writer: Writer, case: Case) -> None:
    """The other image has it all: clients notice nothing."""
    leader, secondary = group.protected()
    victim = leader if case.image == OWN else secondary
    for _time in range(5):
        writer.write()
    if case.image == COPIED:
        group.kill_qemu(secondary)
    pid = 0 if case.image == COPIED else group.qemu_pid(victim)
    group.faults[victim].order(case.kind, case.number, case.errno, case.for_ever)
    struck(group, writer, victim)
    if case.for_ever:
        is_told(group, writer, victim)
        group.faults[victim].heal()
    writer.write()
    is_filled_anew(group, writer, victim, pid)
    group.protected()
    writer.write()


def play_the_only_one(group: FaultyDiskGroup, writer: Writer, case: Case) -> bool:
    """The overlays are merged into the only image left: the guest may be told of the error, and the VM may be given up.

    Returns whether all is well in the end. It is not after a failed flush: no later flush tells what that one has lost, so neither
    QEMU nor the daemon trusts the image again.
    """
    leader, victim = group.protected()
    for _time in range(5):
        writer.write()
    writer.burst()
    time.sleep(BURST_S)
    group.power_off(leader)
    told = group.log(victim).count(TOLD)
    group.faults[victim].order(case.kind, case.number, case.errno, case.for_ever)
    served = False
    with contextlib.suppress(AssertionError, OSError):
        writer.hear()
        struck(group, writer, victim)
        served = True
    assert group.faults[victim].failed, f"no such call came by: {group.faults[victim].seen}"
    group.start(leader)
    if case.for_ever or case.kind == FLUSH:
        is_said(group, leader, victim, told)
    if case.kind == FLUSH:
        return False
    group.faults[victim].heal()
    group.protected()
    if not served:
        boot_again(group, writer, group.protected()[0])
    return True


def is_said(group: FaultyDiskGroup, leader: str, victim: str, told: int) -> None:
    """The image is marked, or the guest knows; the status says so; nobody copies a torn image, or goes back to an older one.

    ``told``: how often the guest had been told before. (With ENOSPC it is not told: it stands still until there is room.)
    """

    def is_known() -> bool:
        stands_still = STOPPED in group.log(victim) and not group.leads("protected")
        return group.mark(victim) in TORN or group.log(victim).count(TOLD) > told or stands_still

    end = time.monotonic() + TELLS_S
    while not is_known():  # QEMU's word of it comes a moment after the call that failed
        assert time.monotonic() < end, f"{victim}'s image is said to be {group.mark(victim)!r}"
        time.sleep(0.01)
    end = time.monotonic() + HOLDS_S
    while time.monotonic() < end:
        torn = group.mark(victim) in TORN
        assert is_known(), f"{victim}'s image is said to be {group.mark(victim)!r}"
        assert not (torn and group.leads("protected"))
        assert group.status(leader).get("role") != "leader"
        assert not torn or any(words in str(group.status(victim)) for words in SAYS_SO)
        group.check_daemons()
        time.sleep(0.05)


def boot_again(group: FaultyDiskGroup, writer: Writer, leader: str) -> None:
    """A guest that was told of the error does not trust its disk any more, until it boots."""
    for member in REPLICAS:
        group.power_off(member)
    group.start(*REPLICAS)
    for member in REPLICAS:
        group.wait(member, seconds=30, service="down")
    reply = group.ctl(leader, "cold-start")
    assert reply["ok"], reply
    writer.client = harness.connect()


def play(stage, case: Case) -> None:
    group, writer = stage.group, stage.writer
    try:
        if case.image != MERGED:
            play_one_of_two(group, writer, case)
        elif not play_the_only_one(group, writer, case):
            stage.strike()
            return
        assert group.compared() == (0, 0, 0)
        writer.check()
        group.check_daemons()
    except (AssertionError, ControlError, OSError) as error:
        raise AssertionError(f"{error!r}: {group.story()}") from error
    finally:
        for faults in group.faults.values():
            faults.heal()
