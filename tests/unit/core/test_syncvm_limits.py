# SPDX-License-Identifier: GPL-3.0-or-later
"""Whom a leader gives up for a syncvm that takes too long: its own QEMU or the secondary."""

from __future__ import annotations

import pytest
from plover.core.syncvm_limits import Overdue, overdue
from plover.ports import effects
from plover.protocol import wire
from plover.protocol.packing import pack_bitmap
from plover.syncvm.leader import LeaderSyncvm
from plover.syncvm.phases import DISKS, LeaderPhase

from tests.sim.rig import protected

pytestmark = pytest.mark.usefixtures("small_pages")

DISK = {"path": "/images/a.img"}
BEGAN = 10.0


class Case:
    """A syncvm that began at ``BEGAN``, and what is said of it later."""

    def __init__(self, audit: int = 0, disks: tuple = ()) -> None:
        seat = protected(disks=list(disks))["primary"]
        self.config, self.memory = seat.config, seat.memory
        self.sync = LeaderSyncvm(1, 5, audit, seat.memory)
        self.sync.started = BEGAN
        self.budget_s = self.config.failover_budget_ms / 1000
        self.syncvm_s, self.join_s = self.config.syncvm_timeout_ms / 1000, self.config.join_timeout_ms / 1000

    def after(self, seconds: float) -> Overdue | None:
        return overdue(self.sync, self.config, "secondary", BEGAN + seconds)

    def stop(self) -> None:
        self.sync.start(BEGAN)
        self.sync.drained(BEGAN)

    def stopped(self) -> None:
        self.stop()
        self.sync.vm_stopped()

    def bitmap(self) -> None:
        nothing = pack_bitmap(self.memory, bytearray(len(self.memory.fetch_dirty())))
        self.sync.on_bitmap(wire.Bitmap(1, 5, self.sync.audit, nothing))


def test_a_syncvm_that_has_not_begun_may_wait():
    assert Case().after(1e6) is None


def test_our_own_qemu_does_not_stop():
    case = Case()
    case.stop()
    assert case.after(case.budget_s) is None
    late = case.after(case.budget_s + 0.01)
    assert late.own_qemu and "QEMU has not answered in phase stop of syncvm 5" in late.why


def test_with_a_disk_our_stop_may_wait_for_the_secondary():
    case = Case(disks=(DISK,))
    case.stop()
    late = case.after(case.budget_s + 0.01)
    assert not late.own_qemu and "secondary takes no disk writes: neither QEMU has stopped" in late.why
    case.bitmap()  # it has stopped
    assert case.after(case.budget_s + 0.01).own_qemu


def test_the_secondarys_qemu_does_not_stop():
    case = Case()
    case.stopped()
    case.sync.device_saved(b"state")
    assert case.after(case.budget_s) is None
    late = case.after(case.budget_s + 0.01)
    assert not late.own_qemu and "secondary's QEMU has not answered in phase exchange" in late.why


def test_the_secondary_does_not_answer():
    case = Case()
    case.stopped()
    case.sync.device_saved(b"state")
    case.bitmap()
    assert case.after(case.syncvm_s) is None
    late = case.after(case.syncvm_s + 0.01)
    assert not late.own_qemu and f"syncvm 5 hung in phase {case.sync.phase}" in late.why


@pytest.mark.parametrize("phase", [LeaderPhase.LOAD, LeaderPhase.DONE])
def test_an_audit_of_disks_has_the_time_of_a_copy(phase):
    case = Case(audit=DISKS, disks=(DISK,))
    case.sync._machine.phase, case.sync._device = phase, b"state"
    assert case.after(case.join_s) is None
    late = case.after(case.join_s + 0.01)
    assert not late.own_qemu and "the audit of the disks took longer than" in late.why


@pytest.mark.parametrize("frozen, leads", [("primary", "secondary"), ("secondary", "primary")])
def test_a_leader_gives_up_whose_qemu_hangs(frozen, leads):
    """Until its QEMU has stopped, the other one serves on."""
    group = protected()
    for stop in (effects.StopVm, effects.ColoStop):
        group[frozen].hold(stop)
    primary = group["primary"]
    primary.audit()
    group.until(lambda: any("has not answered in phase" in text for text in primary.reports))
    group.until(lambda: group.serving() is group[leads])
