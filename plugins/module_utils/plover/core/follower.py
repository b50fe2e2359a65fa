# SPDX-License-Identifier: GPL-3.0-or-later
"""A replica that does not lead: empty, in its initial sync, or in sync and running beside the leader. Sans-I/O."""

from __future__ import annotations

import json
from typing import Any

from ..consensus.log import INPUT, NUMBER, SYNCVM
from ..errors import InvariantViolation, WireError
from ..ports import effects
from ..protocol import wire
from ..syncvm.initial_sync import SecondaryInitialSync
from ..syncvm.phases import SecondaryPhase
from ..syncvm.quiesce import QuiesceLimit
from ..syncvm.secondary import SecondarySyncvm
from .crash import panicked_in
from .director_port import DirectorPort
from .drill import HAND_BACK
from .guard import Guard
from .join_request import SAYS

JOIN_RETRY_S = 0.3
RESTART_S, RESTART_S_MAX = 1.0, 60.0


class Follower:
    def __init__(self, core: DirectorPort, why: str, pause_s: float = 0.0) -> None:
        """``pause_s``: until the empty QEMU starts."""
        self.core, self.config, self.cons = core, core.config, core.consensus
        self.why = why
        self.ready = False  # an empty QEMU waits for its initial sync
        self.filled = False  # its initial sync is done: the VM runs, fed from the log
        self.recorded = False  # the in-sync record has named us since then
        self.filled_at = 0.0
        self.refused = ""
        self.applied = 0
        self.fill: SecondaryInitialSync | None = None
        self.syncvm: SecondarySyncvm | None = None
        self._asked: tuple[int, int] | None = None  # view, number: the leader wants to know what our VM says after this syncvm
        self._says: tuple[int, int] | None = None  # view, number: our VM speaks since this syncvm, and the leader wants to know
        self._early: wire.Bitmap | None = None  # the first bitmap of the next view, while we finish a syncvm of this one
        self.device = b""  # the last device state staged here; the next one comes as a difference to it
        self.guard = Guard(self.config.guard_bytes_max)  # output since the last syncvm, released after a promotion
        self.drain = QuiesceLimit(self.config.syncvm_drain_ms_max / 1000)
        self._ask_at = 0.0
        self._began = core.now  # distinguishes this empty QEMU from the one before it
        self._start_at: float | None = core.now + pause_s
        self.guest_off = False  # our guest has powered itself off, since the last load or in what was loaded
        self.all_know_off = True  # all members run a version that can record it
        self.panicked = False  # our guest has panicked, since the last load or in what was loaded
        self._brings_off = False  # the syncvm under way began under a record that the VM is off, so it brings that state
        self._loaded_off = False  # such a syncvm is loaded

    # ---- time ---------------------------------------------------------------------------------------
    def tick(self) -> None:
        now = self.core.now
        if self.cons.record.off and self._rests():
            return
        if self._start_at is not None and now >= self._start_at and self.cons.leader not in (None, self.config.member):
            self._start_at = None
            self.core.emit(effects.StartQemu(incoming=True))
        if self.ready and not self.fill and self.cons.leader and now >= self._ask_at:
            self._ask_at = now + JOIN_RETRY_S
            asks = {HAND_BACK: True} if self.core.drills.asks(now) else {}
            facts = json.dumps({**self.core.facts, "began": self._began, "checks": True, SAYS: True, **asks}).encode()
            self.core.send(self.cons.leader, wire.JoinRequest(self.cons.view, facts))
        if self.filled:
            self._check_record()
            self.advance()

    def _rests(self) -> bool:
        """The VM is off. Our QEMU is ended, unless it may still have to take over (core/power.py); none is started."""
        if self.recorded_in_sync and (self.syncvm is not None or not self._loaded_off):
            return False
        if self._start_at is None:
            self._start_over("the VM is off", False, 0.0)
        return True

    @property
    def recorded_in_sync(self) -> bool:
        """Our initial sync is over and in the record. Until it is recorded, only its leader knows of it."""
        return self.filled and self.config.member in self.cons.record.in_sync

    def _check_record(self) -> None:
        """Once a record has named us, one that does not means: our copy is stale and must go."""
        if self.config.member in self.cons.record.in_sync:
            self.recorded = True
        elif self.recorded:
            self.reset("the leader goes on without us")
        elif self._forgotten:
            self.reset(f"{self.cons.leader} has not recorded us in sync", tell=True)

    @property
    def _forgotten(self) -> bool:
        """Not recorded, although our leader is well and has had twice its time limit for the last step of an initial sync."""
        waited_s = self.core.now - self.filled_at
        return (
            waited_s > 2 * self.config.syncvm_timeout_ms / 1000
            and self.cons.leader in self.cons.others
            and self.cons.hears(self.cons.leader, self.core.now)
        )

    def reset(self, why: str, tell: bool = False) -> None:
        """Throw our copy away and start over."""
        self._start_over(why, tell, RESTART_S)

    def _start_over(self, why: str, tell: bool, pause_s: float) -> None:
        self.core.report(f"secondary: starting over: {why}")
        if tell and self.cons.leader in self.cons.others:
            self.core.send(self.cons.leader, wire.Leave(self.cons.view, why.encode()))
        self.core.note_holder(False)
        self.core.emit(effects.KillQemu(why))
        self.core.become_follower(why, pause_s)

    def copy_lost(self, error: str) -> None:
        """The next copy is of all blocks. Pause before it, longer after each copy in a row that failed."""
        pause_s = min(RESTART_S_MAX, RESTART_S * 2 ** min(self.core.copies_failed, 16))
        self._start_over(f"this host's disks lost what was copied to them: {error}", True, pause_s)

    # ---- initial sync ---------------------------------------------------------------------------------------
    def qemu_ready(self) -> None:
        self.ready = True

    def on_fill_pages(self, m: wire.FillPages) -> None:
        fill = self._fill_of(m)
        if fill:
            self.core.emit(*fill.on_pages(m))

    def on_fill_state(self, m: wire.FillState) -> None:
        fill = self._fill_of(m)
        if fill:
            self.core.emit(*fill.on_state(m))

    def on_fill_check(self, m: wire.FillCheck) -> None:
        fill = self._fill_of(m)
        if fill:
            self.core.emit(*fill.on_check(m))

    def _fill_of(self, m: wire.FillPages | wire.FillCheck | wire.FillState) -> SecondaryInitialSync | None:
        """The initial sync that ``m`` belongs to; the first message begins it. None: ``m`` is late."""
        if self.fill is None and self.ready:
            self.fill = SecondaryInitialSync(m.view, m.join, self.core.memory, self._began)
        fill = self.fill
        return fill if fill is not None and (m.view, m.join) == (fill.view, fill.join) else None

    def colo_ready(self) -> None:
        if self.fill is None:
            raise InvariantViolation("a VM was loaded here without an initial sync")
        self.filled, self.applied, self.filled_at = True, self.fill.index, self.core.now
        self.panicked = panicked_in(self.fill.stream)
        self.core.note_holder(True)
        self.core.emit(*self.fill.colo_ready())
        self.advance()

    # ---- running beside the leader ----------------------------------------------------------------
    def advance(self) -> None:
        self._take_early()
        while (
            self.filled and self.applied < self.cons.commit_index and (self.syncvm is None or self.syncvm.phase == SecondaryPhase.ORDERED)
        ):
            if self.applied < self.cons.log.base_index:
                return self.reset("the log no longer holds what we lack", tell=True)
            entry = self.cons.log[self.applied + 1]
            self.applied += 1
            if entry.kind == INPUT:
                if not self.config.checkpoints:
                    self.core.emit(effects.Inject(entry.payload))
            elif entry.view == self.cons.view:
                number = NUMBER.unpack(entry.payload)[0]
                if self.syncvm is None or self.syncvm.number != number:
                    self._begin_syncvm(self.cons.view, number)
                limit_s = self.drain.take() if entry.kind == SYNCVM else None
                self.core.emit(*self._running_syncvm.start(self.core.now, limit_s))

    def _begin_syncvm(self, view: int, number: int) -> None:
        self._brings_off = self.cons.record.off
        self.syncvm = SecondarySyncvm(view, number, self.core.memory, self.device, self.config.checkpoints, self._began)

    def output(self, frames: bytes) -> None:
        if self._says is not None:
            self.guard.make_room(len(frames))  # what the leader's VM has said, too, has left
        self.guard.hold(frames, self.core.now)
        if self._says is not None:
            self.core.emit(*[effects.SendData(wire.Said(*self._says, told)) for told in self.core.comparison.said(frames)])

    def on_said(self, m: wire.Said) -> None:
        """The leader wants to know what our VM says once it has loaded syncvm ``m.number``."""
        if m.payload:
            raise WireError("what a VM has said was told to a secondary")
        self._asked = (m.view, m.number)

    def on_bitmap(self, m: wire.Bitmap) -> None:
        """The leader sends its bitmap once. It may come while we still load for the view before, or before we have heard of
        its view. Keep it then: without it the syncvm would hang, and cost the protection.
        """
        if m.view > self.cons.view or (self.syncvm is not None and m.view > self.syncvm.view):
            self._early = m
            return
        if self.syncvm is None and self.filled:
            self._begin_syncvm(m.view, m.number)
        sync = self._syncvm_of(m)
        if sync:
            self.core.emit(*sync.on_bitmap(m))

    def _take_early(self) -> None:
        """Take the bitmap that came too early, once its view is ours."""
        if self._early is not None and self.syncvm is None and self._early.view <= self.cons.view:
            bitmap, self._early = self._early, None
            if bitmap.view == self.cons.view:
                self.on_bitmap(bitmap)

    def on_staging(self, m: wire.Divergent | wire.StageBlocks | wire.StagePages) -> None:
        sync = self._syncvm_of(m)
        if sync:
            self.core.emit(*sync.on_staging(m))

    def on_stage_end(self, m: wire.StageEnd) -> None:
        sync = self._syncvm_of(m)
        if sync is None:
            return
        self.core.emit(*sync.on_stage_end(m))
        if sync.holds_new_state:
            self.device = sync.device
            self.core.guest_clock.read(self.core.now, sync.device)
            self.guard.discard()  # the leader releases the output up to here
            self._says = self._asked if self._asked == (sync.view, sync.number) else None
            if sync.limit_s is not None:
                self.drain.learn(self.core.now - sync.started)

    def _syncvm_of(self, m: wire.Bitmap | wire.Divergent | wire.StageBlocks | wire.StagePages | wire.StageEnd) -> SecondarySyncvm | None:
        """The syncvm under way, if ``m`` belongs to it."""
        sync = self.syncvm
        return sync if sync is not None and (m.view, m.number) == (sync.view, sync.number) else None

    def abandon_syncvm(self) -> None:
        """Another view began. A syncvm that is staged here goes on to its end; any other one was not acknowledged, and is given up."""
        self.device = b""  # the leader of the next view begins with a whole device state
        self._asked = self._says = None
        if self.syncvm is not None and not self.syncvm.holds_new_state:
            self.syncvm.abandon()
            self.syncvm = None

    def guest_went_off(self, all_know: bool) -> None:
        """Our guest has powered itself off. The leader's does the same at its time; the next load is of that moment."""
        self.guest_off, self.all_know_off = True, all_know

    def guest_panicked(self, all_know: bool) -> None:
        """As with power: the next load is of what the leader's guest does."""
        self.panicked, self.all_know_off = True, all_know

    def guest_reset(self) -> None:
        self.panicked = False

    def colo_loaded(self) -> None:
        sync = self._running_syncvm
        self.panicked = panicked_in(sync.device)
        self.guest_off = self._loaded_off = self._brings_off
        self.all_know_off = True  # what is recorded is known
        self._applied(sync, sync.loaded())

    def disks_hashed(self, hashes: bytes) -> None:
        sync = self._running_syncvm
        self._applied(sync, sync.disks_hashed(hashes))

    @property
    def _running_syncvm(self) -> SecondarySyncvm:
        """The syncvm that an answer is for."""
        if self.syncvm is None:
            raise InvariantViolation("an answer for a syncvm that is not under way")
        return self.syncvm

    def _applied(self, sync: SecondarySyncvm, actions: list[Any]) -> None:
        self.core.emit(*actions)
        if sync.phase == SecondaryPhase.DONE:
            self.syncvm = None
            self.advance()

    @property
    def will_be_off(self) -> bool:
        """The guest of the VM that we have, or that must still be loaded, is off."""
        return self._brings_off if self.must_finish_load else self.guest_off

    @property
    def will_have_panicked(self) -> bool:
        return panicked_in(self._running_syncvm.device) if self.must_finish_load else self.panicked

    @property
    def must_finish_load(self) -> bool:
        return self.syncvm is not None and self.syncvm.must_load
