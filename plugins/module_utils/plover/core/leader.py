# SPDX-License-Identifier: GPL-3.0-or-later
"""The leader's part: run the VM, feed it input in log order, run syncvms, hand over. Sans-I/O.

It owns objects for the rest: core/output_commit.py releases output, core/reprotection.py adds and drops the secondary,
core/own_disks.py knows the state of this host's images.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..consensus.log import AUDIT, INPUT, NUMBER, SYNCVM
from ..errors import InvariantViolation
from ..ports import effects
from ..protocol import wire
from ..syncvm.leader import LeaderSyncvm
from ..syncvm.pace import Pace
from ..syncvm.phases import DISKS, LeaderPhase
from ..syncvm.secondary import SecondarySyncvm
from .director_port import DirectorPort
from .disk_writes import DiskWrites
from .drill import HandBack
from .event_log import SWITCHOVER
from .fencing import Fencing
from .guard import Guard
from .incoming import Incoming
from .output_commit import OutputCommit
from .own_disks import OwnDisks
from .power import Power
from .reprotection import SECONDARY_NODES, Reprotection
from .requests import Audits, Switchover
from .syncvm_limits import overdue

if TYPE_CHECKING:
    from ..syncvm.initial_sync import LeaderInitialSync

BOOTING, PROMOTING, RUNNING = "booting", "promoting", "running"
RETRY_S = 1.0
REST_S = 0.001  # how long an idle VM that gets input again may answer it before its syncvm


class Leader:
    def __init__(self, core: DirectorPort, vm: str, guard: Guard, applied: int) -> None:
        self.core, self.config, self.cons = core, core.config, core.consensus
        self.vm, self.guard, self.applied = vm, guard, applied
        self.disks = bool(core.config.disks)
        self.writes = DiskWrites(core)
        self.own = OwnDisks(merging=self.disks and vm != BOOTING)
        self.disk_pressure = False  # the writes since the last syncvm may fill the secondary's overlays
        self.active = True
        self.output_commit = OutputCommit(core, self, guard)
        self.reprotection = Reprotection(core, self)
        self.secondary = self.reprotection.secondary
        self.syncvm: LeaderSyncvm | None = None
        self.device = b""  # the last device state that the secondary acknowledged; the next one goes as a difference to it
        self.vm_stopped_by_us = False
        self.audits, self.switchover = Audits(), Switchover()
        self.incoming = Incoming(core, self)
        self.last_syncvm_at = core.now
        self.pace = Pace(self.config.latency_ms_target / 1000)
        self.tap_up = False
        self.tap_early = False  # it is up while the VM is promoted
        self._sync_index = 0  # the syncvm under way covers the log up to here
        self._retry_at: float | None = None  # when to ask QEMU again after it refused
        self.fencing: Fencing | None = None  # of the old leader, after a failover
        self.finishing: SecondarySyncvm | None = None  # a staged syncvm whose load must end before the promotion
        self.hand_back = HandBack()  # the secondary may want the VM back: its operator asked for a drill
        self.power = Power(core, self)

    # ---- state that others ask for --------------------------------------------------------------
    @property
    def serving(self) -> bool:
        waits = self.fencing is not None and self.fencing.blocks
        return self.active and self.vm == RUNNING and self.cons.record_committed and not waits

    @property
    def speaks(self) -> bool:
        """May announce where the VM is. Announcements are the only frames that leave without the VM having sent them."""
        ready = self.serving if self.tap_up else self.tap_early
        return ready and not self.switchover.under_way and self.cons.fresh(self.core.now)

    @property
    def held_for_syncvm(self) -> bool:
        """True while output may leave only through a syncvm."""
        return self.secondary in self.cons.record.in_sync or (self.fill is not None and self.fill.holds_output)

    @property
    def fill(self) -> LeaderInitialSync | None:
        """The initial sync under way."""
        return self.reprotection.fill

    @property
    def protected(self) -> bool:
        """The secondary is in sync and could take over."""
        return self.reprotection.in_sync

    @property
    def _input_paused(self) -> bool:
        stopped = self.syncvm is not None and self.syncvm.phase != LeaderPhase.ORDERED and not self.syncvm.vm_runs
        filling = self.fill is not None and self.fill.stops_input
        return stopped or filling or self.switchover.under_way or self.vm != RUNNING or not self.active

    # ---- becoming and ceasing to be leader ---------------------------------------------------------
    def begin(self) -> None:
        """Elected, and there is a VM (running, in promotion, or just booted): record ourselves as in sync, and go on."""
        self.active = True
        if self.applied < self.cons.log.base_index:
            self.applied = self.cons.log.last_index  # a restarted daemon: the input that it missed was never answered
        self.last_syncvm_at = self.core.now
        self.reprotection.begin()
        if self.vm_stopped_by_us:
            self._cont()
        self._serve()

    def bring_tap_up_early(self) -> None:
        """Prepare the TAP and the network while the VM loads and is promoted."""
        if not (self.fencing and self.fencing.blocks):
            self.tap_early = True
            self.core.emit(effects.TapEarly())

    def vm_running(self) -> None:
        self.vm = RUNNING
        self.power.promoted()
        self.core.note_holder(True)
        self._serve()

    def record_committed(self) -> None:
        self.power.record_committed()
        if self.reprotection.record_committed():
            self.last_syncvm_at = self.core.now
            if self.own.lost:
                return self.core.give_up_qemu(f"this host's image lacks a write ({self.own.lost}); {self.secondary} has it all")
        self._serve()

    def _serve(self) -> None:
        if self.serving and not self.tap_up:
            self.tap_up = True
            self.core.emit(effects.TapUp(announce=True))
            self.core.report(f"serving in view {self.cons.view}")
        self.advance()
        self.output_commit.release_confirmed()

    def fenced(self, fencing: Fencing, error: str | None) -> None:
        self.core.report(fencing.answered(self.core.now, error))
        if self.active:
            self._serve()

    def suspend(self) -> None:
        """Another view began. Keep VM and held output until the record says who holds the state."""
        self.active = False
        # With disks, a secondary that may be loading fits no more: nobody would tell us when it has loaded.
        sent = self.disks and self.syncvm is not None and self.syncvm.all_sent
        self.reprotection.suspend(fits=not sent)
        self.abandon_syncvm("deposed")
        self.core.event_log.interrupted(self.core.now if self.tap_up else None)
        self.output_commit.close_way()
        if self.tap_up and self.switchover.asked:
            self.core.late.begin(self.core.now + self.config.failover_budget_ms / 1000)
        elif self.tap_up or self.tap_early:
            self.core.emit(effects.TapDown())
        self.tap_up = self.tap_early = False
        if self.vm == RUNNING and not self.vm_stopped_by_us:
            self.vm_stopped_by_us = True
            self.core.emit(effects.StopVm(("suspend", self.cons.view)))
        self.switchover.end(None)

    # ---- time ---------------------------------------------------------------------------------------
    def tick(self) -> None:
        if self.active:
            self._enforce_limits()
        if not self.active:
            return  # our QEMU was given up
        now = self.core.now
        if not self.held_for_syncvm and self.serving:
            self.cons.truncate_to(self.applied)
        if self.fencing:
            self.core.emit(*self.fencing.tick(now))
        self.core.emit(*self.own.tick(now))
        if self._retry_at is not None and now >= self._retry_at:
            self._retry_at = None
            self._ask_qemu_again()
        self.advance()
        self.output_commit.release_confirmed()
        if self.hand_back.begins(self.protected and self.serving and not self.switchover.asked):
            self.switchover.ask(lambda _error: None)
        self.power.tick()
        self.maybe_syncvm()

    def _enforce_limits(self) -> None:
        """Give up whatever keeps clients waiting for longer than the settings allow."""
        now, ms = self.core.now, self.config
        self.reprotection.enforce_limits()
        late = self.syncvm and overdue(self.syncvm, ms, self.secondary, now)
        if late and late.own_qemu:
            self.core.give_up_qemu(late.why)
        elif late:
            self.reprotection.drop(late.why)
        if self.switchover.overdue(now, ms.failover_budget_ms / 1000):
            # It may still take over, as it was told to, until the record no longer names it.
            self.reprotection.drop(
                f"{self.secondary} did not take over within {ms.failover_budget_ms} ms (failover_budget_ms); still leading here"
            )

    def _ask_qemu_again(self) -> None:
        if self.vm == PROMOTING:
            self.core.emit(effects.Promote(("promote", self.cons.view)))
        elif not (self._input_paused or self.vm_stopped_by_us):  # else whatever stopped it meanwhile will let it run
            self.core.emit(effects.ContVm())

    def qemu_refused(self, error: str) -> None:
        """Our QEMU refused a command. With a secondary it is given up; the only copy of the VM never is."""
        # A failed load leaves pages and devices of two moments: that is no copy of the VM.
        if self.protected or self.vm == BOOTING or not self.active or self.finishing is not None:
            self.core.give_up_qemu(f"QEMU failed: {error}")
        else:
            self.core.report(f"QEMU failed, and no other host holds the VM: trying again: {error}")
            self._retry_at = self.core.now + RETRY_S

    # ---- input and output -----------------------------------------------------------------------------
    def advance(self) -> None:
        """Feed committed entries in order, up to a syncvm."""
        while self.applied < self.cons.commit_index and not self._input_paused:
            entry = self.cons.log[self.applied + 1]
            self.applied += 1
            if entry.kind == INPUT:
                self.core.emit(effects.Inject(entry.payload))
            elif self.syncvm and entry.view == self.cons.view and NUMBER.unpack(entry.payload)[0] == self.syncvm.number:
                self.core.emit(*self.syncvm.start(self.core.now))
            # The entry of an earlier leader's syncvm, or of one that was given up, is ignored.

    def output(self, frames: bytes) -> None:
        self.output_commit.hold(frames)

    # ---- syncvm -------------------------------------------------------------------------------------
    def maybe_syncvm(self, idle: bool = False) -> None:
        """Begin a syncvm if one is due. ``idle``: our VM is idle at this moment."""
        if not self.protected or self.syncvm or not self.serving or self.switchover.under_way or self.power.forbids_syncvm:
            return
        now, held = self.core.now, self.output_commit.makes_due(self.pace, idle) and not self.config.checkpoints
        asked = self.audits.asked or self.switchover.asked or self.disk_pressure or self.power.wants_syncvm
        rare = now - self.last_syncvm_at >= self.core.rest.interval_s(self.cons.log.bytes)
        if held or asked or rare or 2 * self.cons.log.bytes > self.config.log_bytes_max:
            audit, number = self.audits.begin(), self.core.next_syncvm_number()
            whole, base = self.config.checkpoints, b"" if self.config.checkpoints else self.device
            self.syncvm = LeaderSyncvm(self.cons.view, number, audit, self.core.memory, base, whole, self.core.scrub.next(now))
            self.syncvm.due_at = self.syncvm.started = now
            self.syncvm.drain_s = REST_S if idle else 0.0
            self.cons.propose(AUDIT if audit else SYNCVM, NUMBER.pack(number))

    @property
    def _running_syncvm(self) -> LeaderSyncvm:
        if self.syncvm is None:
            raise InvariantViolation("an answer for a syncvm that is not under way")
        return self.syncvm

    def syncvm_stopped(self) -> None:
        self.vm_stopped_by_us, self._running_syncvm.halted_at = True, self.core.now
        self._sync_index = self.applied
        self.output_commit.syncvm_stopped(self._running_syncvm.number)
        self.core.emit(*self._running_syncvm.vm_stopped())

    def syncvm_captured(self) -> None:
        """Our VM runs on if everything that the secondary needs has been copied; its output stays held."""
        if self.syncvm and self.syncvm.captured and not (self.switchover.asked or self.syncvm.vm_runs):
            self.writes.hold()
            self._resume_after(self.syncvm)

    def staged(self) -> None:  # output commit: the secondary holds the whole syncvm
        sync = self._running_syncvm
        sync.on_staged()
        if not self.serving or self.secondary not in self.cons.record.in_sync:
            raise InvariantViolation("a syncvm was acknowledged while its secondary is not recorded in sync")
        self.device = sync.device
        self.core.guest_clock.read(sync.halted_at, sync.device)
        if not sync.audit:
            self.pace.learn(self.core.now - sync.due_at)
        self.output_commit.syncvm_staged()
        self.cons.truncate_to(self._sync_index)
        if sync.phase == LeaderPhase.LOAD:
            self._loading(sync)
            self._hand_over()  # the election runs while the secondary loads

    def _loading(self, sync: LeaderSyncvm) -> None:
        """The secondary loads. Our VM runs meanwhile, unless there are disks and it has not run on before."""
        sync.loading_since = self.core.now
        if sync.audit == DISKS:
            self.core.emit(effects.HashDisks(sync.tag))
        if not (self.disks or sync.vm_runs):
            self._resume_after(sync)

    def _resume_after(self, sync: LeaderSyncvm) -> None:
        sync.resumed_at = self.last_syncvm_at = self.core.now
        if not self.switchover.asked:
            sync.vm_runs = True
            self.run_on()

    def hashes_came(self, m: wire.Hashes) -> None:
        """Of the secondary's pages; in an audit a second time, after everything was applied there."""
        self.core.emit(*self._running_syncvm.on_hashes(m))
        if m.after:
            self._loading(self._running_syncvm)
        self.syncvm_captured()

    def applied_by_secondary(self) -> None:
        self._running_syncvm.on_applied()
        self.output_commit.agreed.loaded(self.core.now)
        self._end_if_compared(self._running_syncvm)

    def disks_hashed(self, hashes: bytes) -> None:
        self._running_syncvm.disks_hashed(hashes)
        if self._running_syncvm.phase == LeaderPhase.DONE:
            self._end_if_compared(self._running_syncvm)

    def _end_if_compared(self, sync: LeaderSyncvm) -> None:
        """The secondary runs, so the syncvm is over. But an audit of disks waits until both hosts have hashed their images."""
        if not sync.disks_compared:
            return
        if self.disks:
            self.disk_pressure = False
            if not sync.vm_runs:
                self._resume_after(sync)
            self.writes.go_on()
        self.syncvm = None
        figures = sync.figures()
        self.core.record_figures(figures)
        self.audits.end(figures)
        self.power.syncvm_over()
        self._hand_over()

    def _hand_over(self) -> None:
        """The secondary holds everything: let it lead. If output has still to leave, the next syncvm hands over."""
        if self.switchover.asked and not self.switchover.under_way and not self.output_commit.pending:
            self.switchover.begin(self.core.now)
            self.core.event_log.handover(self.core.now, SWITCHOVER, "asked for by the operator")
            why = self.hand_back.reason(self.core.event_log.outage_ms)
            self.core.send(self.secondary, wire.TransferLeadership(self.cons.view, why.encode()))

    # ---- for re-protection ---------------------------------------------------------------------------
    def fill_stopped(self) -> None:
        self.vm_stopped_by_us = True
        self.reprotection.vm_stopped(self.applied)

    def run_on(self) -> None:
        self._cont()
        self.advance()

    def _cont(self) -> None:
        if not (self.own.lost or self.power.off):
            self.vm_stopped_by_us = False
            self.core.emit(effects.ContVm())

    def abandon_syncvm(self, why: str) -> None:
        if self.syncvm:
            self.syncvm.abandon()
            self.writes.abandon(self.syncvm.all_sent)
        self.syncvm = None
        self.device = b""  # the secondary may have staged the new state nonetheless: we don't know which one it holds
        self.audits.give_up(why)
        if self.active:
            self.switchover.end(why)

    def serve_alone(self) -> None:
        self.output_commit.start_over()
        if self.active and self.vm_stopped_by_us:
            self._cont()
        self.advance()

    # ---- the VM's disks ------------------------------------------------------------------------------
    def disk_failed(self, node: str, error: str, lost: bool = False) -> None:
        """A write or read failed. ``lost``: QEMU may have told the guest that the write is done.

        Then the guest reads the old block from now on: none of the VM's output since then may leave. The secondary goes on
        from the last syncvm. No write was lost before that, or the stop would have told us.
        """
        what = f"this host's image fails ({node}: {error})"
        if node.startswith(SECONDARY_NODES):
            self.reprotection.drop(f"{self.secondary} does not take our writes to its disks ({node}: {error})")
        elif self.protected:
            self.own.lost = error if lost else ""
            self.core.give_up_qemu(f"{what}; {self.secondary} has it all")
        elif lost and self.fill is not None and self.active:
            self._stop_for_good(error)
            self.core.report(f"{what} beside a secondary that is not recorded yet; the VM stands still until it is")
        elif lost:
            self.own.lost = error
            self.core.give_up_qemu(f"{what}, no other host is in sync, and the guest was told that the write is done")
        else:
            self.core.report(f"{what}, and no other host is in sync; see to it now")
            self.reprotection.own_image_failed(what)

    def _stop_for_good(self, error: str) -> None:
        self.own.lost = error
        if not self.vm_stopped_by_us:
            self.vm_stopped_by_us = True
            self.core.emit(effects.StopVm(("lost write", self.cons.view)))

    def vm_waits_for_disk(self, error: str) -> None:
        self.own.vm_waits(self.core.now, error)
        self.core.report(f"QEMU has stopped the VM at an error of its disk ({error}); trying again in {RETRY_S:.0f} s")
        self._retry_at = self.core.now + RETRY_S
