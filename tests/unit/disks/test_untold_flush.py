# SPDX-License-Identifier: GPL-3.0-or-later
"""A flush that failed while the guest is not told: which of QEMU's events mean one, and what the daemon does then."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from plover.config.settings import Config
from plover.core.disk_marks import MISSED, Mark
from plover.disks.marks import DiskMarks
from plover.disks.untold_flush import TOGETHER_S, UntoldFlush
from plover.replica import disk_work
from plover.replica.disk_work import DiskWork
from settings import settings

FULL, BROKEN = "No space left on device", "Input/output error"
FLUSH = "QUORUM_REPORT_BAD", {"node-name": "image0", "type": "flush", "error": FULL}
BROKEN_FLUSH = "QUORUM_REPORT_BAD", {"node-name": "image0", "type": "flush", "error": BROKEN}
WRITE = "QUORUM_REPORT_BAD", {"node-name": "image0", "type": "write", "error": FULL}
STOP = "BLOCK_IO_ERROR", {"node-name": "top0", "operation": "write", "action": "stop", "reason": FULL}
TOLD = "BLOCK_IO_ERROR", {"node-name": "top0", "operation": "write", "action": "report", "reason": BROKEN}


def test_it_takes_both_events_in_either_order_close_together_and_of_one_error():
    def is_one(first: str, second: str, apart_s: float = 0.0, error: str = FULL) -> bool:
        untold = UntoldFlush()
        assert not getattr(untold, first)(7.0, FULL)
        return getattr(untold, second)(7.0 + apart_s, error)

    for order in (("flush_failed", "vm_stopped"), ("vm_stopped", "flush_failed")):
        assert is_one(*order) and is_one(*order, TOGETHER_S)
        assert not is_one(*order, TOGETHER_S + 0.1) and not is_one(*order, error=BROKEN)
    assert not is_one("flush_failed", "flush_failed") and not is_one("vm_stopped", "vm_stopped")


def test_a_flush_that_no_guest_asked_for_is_told_from_one_whose_error_it_got():
    untold = UntoldFlush()
    assert untold.nobody_told(7.0, BROKEN)
    for told_at, error, nobody in ((5.0, BROKEN, False), (7.5, BROKEN, False), (4.9, BROKEN, True), (7.5, FULL, True)):
        untold.guest_told(told_at, error)
        assert untold.nobody_told(7.0, BROKEN) is nobody


class Replica:
    """As much of a daemon as DiskWork uses."""

    def __init__(self, config: Config) -> None:
        self.config, self.spawned, self.answers = config, [], []
        self.core = SimpleNamespace(consensus=SimpleNamespace(view=9), marks=())
        self.spawn, self.loop, self.links = self.spawned.append, SimpleNamespace(time=lambda: 5.0), SimpleNamespace()
        self.work = DiskWork(self)
        self.vm = SimpleNamespace(images=self.work.new_images(), block=SimpleNamespace(hides_errors=False))

    def answer(self, *words: object) -> None:
        self.answers.append(words[0])

    def hears(self, *events: tuple[str, dict]) -> list[str]:
        for name, data in events:
            self.work._error(self.vm, name, data)
        for work in self.spawned:
            asyncio.run(work)
        return self.answers


@pytest.fixture
def replica(tmp_path, monkeypatch, request):
    monkeypatch.setattr(disk_work, "TOGETHER_S", 0.0)  # it sleeps so long
    image = tmp_path / "a.img"
    image.write_bytes(bytes(512))
    disk = {"path": str(image), "cache": getattr(request, "param", "writeback")}
    return Replica(Config(settings("primary", disks=[disk], state_dir=str(tmp_path / "state"))))


@pytest.mark.parametrize("events", [(FLUSH, STOP), (STOP, FLUSH)], ids=["told-first", "told-late"])
def test_such_an_image_is_marked_and_its_vm_given_up(replica, events):
    assert replica.hears(*events)[-1] == "copy_lost"
    assert "vm_waits_for_disk" not in replica.answers[-1:] and DiskMarks(replica.config).read() == (Mark(MISSED, 9),)


@pytest.mark.parametrize("events", [(WRITE, STOP), (FLUSH, TOLD), (STOP, WRITE), (STOP, STOP)])
def test_a_write_that_finds_no_room_or_an_error_that_the_guest_hears_of_costs_nothing(replica, events):
    assert "copy_lost" not in replica.hears(*events)
    assert ("vm_waits_for_disk" in replica.answers) == (STOP in events)
    assert DiskMarks(replica.config).read() == (Mark(),)


@pytest.mark.parametrize(
    "replica, events, lost",
    [("none", [BROKEN_FLUSH], True), ("none", [BROKEN_FLUSH, TOLD], False), ("writeback", [BROKEN_FLUSH], False)],
    indirect=["replica"],
)
def test_a_flush_of_qemus_own_costs_the_image_where_qemu_forgets_that_it_failed(replica, events, lost):
    """With "writeback" the guest is told at its next flush."""
    assert ("copy_lost" in replica.hears(*events)) is lost
    assert DiskMarks(replica.config).read() == (Mark(MISSED, 9) if lost else Mark(),)
