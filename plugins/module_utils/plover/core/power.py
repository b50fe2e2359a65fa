# SPDX-License-Identifier: GPL-3.0-or-later
"""The guest powers itself off: the VM becomes *off*, which is a state of its own, recorded by a quorum, and never a failover. Sans-I/O.

Or, with on_poweroff restart, it boots again: QEMU is reset and runs on, and the next syncvm takes that to the secondary.

QEMU keeps the VM, stopped. To have it off, the leader
1. waits until no syncvm is under way, and records "off" beside the in-sync set;
2. runs one more syncvm, so that the secondary's disks hold all that the guest wrote, and all output may leave;
3. ends its QEMU and leads no more. The secondary ends its own once it has loaded a syncvm that began under such a record.

If the leader dies before step 3, the secondary takes over as ever: its guest goes on shutting down, powers itself off, and so on. A
member that is in sync and off may boot the VM again (core/cold_start.py); the first record of that view is not "off".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from ..config.panics import RESTART
from ..ports import effects
from .crash import Crash
from .director_port import DirectorPort
from .output_commit import OutputCommit
from .own_disks import OwnDisks
from .reprotection import Reprotection
from .requests import Switchover
from .restarts import TOO_MANY, Restarts

if TYPE_CHECKING:
    from ..syncvm.initial_sync import LeaderInitialSync

PATIENCE_S = 5.0
WHY = "the guest has powered itself off"


class Powered(Protocol):
    """What the power asks of its leader."""

    active: bool
    vm_stopped_by_us: bool
    output_commit: OutputCommit
    reprotection: Reprotection
    switchover: Switchover
    own: OwnDisks

    @property
    def syncvm(self) -> object | None:
        """The one under way."""

    @property
    def fill(self) -> LeaderInitialSync | None: ...

    @property
    def serving(self) -> bool: ...

    @property
    def protected(self) -> bool:
        """The secondary is in sync."""

    def maybe_syncvm(self) -> None: ...

    def run_on(self) -> None: ...


class Power:
    def __init__(self, core: DirectorPort, leader: Powered) -> None:
        self._core, self._cons, self._leader = core, core.consensus, leader
        self.restarts = Restarts()
        self.crash = Crash(core, leader, self)
        self.off = False  # our VM stands still, and is not to run on
        self.again = False  # it is to boot again
        self.why = ""
        self._off_at = 0.0
        self._all_know = True  # all members run a version that can record it
        self._recorded = self._covered = False

    # ---- events -------------------------------------------------------------------------------------
    def guest_off(self, all_know: bool = True) -> None:
        """Our guest has powered itself off, and QEMU has stopped it. Told again when a member has told what it knows."""
        self._all_know = all_know
        if not self.off:
            self._ends(WHY, self._boots_again)

    def stop(self, why: str) -> None:
        """Our VM runs, and is to be off."""
        self._all_know = True
        self._core.emit(effects.StopVm(("off", self._cons.view)))
        self._ends(why, False)

    def _ends(self, why: str, again: bool) -> None:
        self.off, self.again, self.why, self._off_at = True, again, why, self._core.now
        self._leader.vm_stopped_by_us = True
        self._core.report(why + self._follows)
        self._leader.switchover.end(why)
        self.tick()

    @property
    def _boots_again(self) -> bool:
        return bool(self._core.config.on_poweroff == RESTART) and self.restarts.allowed(self._core.now)

    @property
    def _follows(self) -> str:
        if self.again:
            return ", and on_poweroff is restart"
        wanted = self.why == WHY and self._core.config.on_poweroff == RESTART
        return f", and stays off, as {TOO_MANY}" if wanted else ""

    def inherit(self, off: bool, all_know: bool) -> None:
        """What the follower knew of the VM that we take over. What is recorded stays off."""
        self.off, self._all_know, self._off_at, self.why = off, all_know, self._core.now, WHY
        self.again = off and not self._cons.record.off and self._boots_again

    def promoted(self) -> None:
        """The VM that we have taken over runs, although its guest was off already."""
        if self.off and not self.again:
            self._leader.vm_stopped_by_us = True
            self._core.emit(effects.StopVm(("off", self._cons.view)))

    def record_committed(self) -> None:
        self._recorded = self.off and self._cons.record.off
        self._covered = self._covered and self._recorded

    def syncvm_over(self) -> None:
        """None was under way when "off" was recorded, so each one since then covers it."""
        self._covered = self._recorded

    # ---- what is due --------------------------------------------------------------------------------
    @property
    def wants_syncvm(self) -> bool:
        return self._recorded and not self._covered

    @property
    def forbids_syncvm(self) -> bool:
        """Until "off" is recorded: the secondary must know which syncvm covers it. And until a guest that has panicked is reset."""
        return (self.off and not self._recorded) or self.crash.due

    def tick(self) -> None:
        leader = self._leader
        self.crash.tick()
        if not (self.off and leader.active and leader.serving):
            return
        if self.again:
            return self._boot_again()
        if not self._all_know:
            if self._core.now - self._off_at < PATIENCE_S:
                return  # a member may not have had a link yet
            return self._core.give_up_qemu(f"{self.why}, and a member runs an earlier version, which cannot record that")
        if leader.fill:
            leader.reprotection.drop(self.why)
        elif not self._recorded:
            if leader.syncvm is None and not self._cons.record.off:
                self._cons.propose_record(self._cons.record.in_sync, off=True)
        elif leader.protected and not self._covered:
            leader.maybe_syncvm()
        elif not leader.output_commit.pending:
            self._core.power_off(self.why)

    def _boot_again(self) -> None:
        """Between two syncvms, as in core/crash.py."""
        leader = self._leader
        if leader.fill:
            leader.reprotection.drop(self.why)
        elif leader.syncvm is None and not leader.own.lost:
            self.off = self.again = False
            self.restarts.note(self._core.now)
            self._core.emit(effects.ResetGuest(), *self._core.event_log.restarted(f"{WHY}, and on_poweroff is restart"))
            leader.run_on()
