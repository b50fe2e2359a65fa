# SPDX-License-Identifier: GPL-3.0-or-later
"""The replica's core: consensus, its present role (leader or follower), and the way between them. Sans-I/O.

Events come in through methods (each starts with :meth:`at`, which sets the time), actions go out through
:meth:`take`, in order. The failover of the whole system is in :meth:`_on_elected` and :meth:`_on_deposed`.
"""
from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable

from ..config.settings import Config
from ..config.timing import Timing
from ..consensus.consensus import Consensus
from ..consensus.durable import Durable
from ..consensus.effects import LEADER, Deposed, Elected, Persist, RecordCommitted, Send
from ..errors import InvariantViolation, WireError
from ..ports import effects as act
from ..protocol import wire
from ..syncvm.figures import Figures
from . import cold_start
from .disk_marks import Mark, why_torn
from .event_log import FAILOVER, FORCED, HANDED_OVER, SWITCHOVER, Chronicle, note_election
from .fencing import Fencing
from .follower import Follower
from .guard import Guard
from .late_input import LateInput, checked
from .leader import BOOTING, PROMOTING, RUNNING, Leader
from .status import describe, mode_of, reason

RECENT_MAX = 1024  # syncvms whose figures are kept
_LEADER_ONLY = (wire.JoinRequest, wire.Leave)
_SECONDARY_SAYS = (wire.Bitmap, wire.Hashes, wire.BlockHashes, wire.Resend, wire.Staged, wire.Applied, wire.DiskHashes)


class Director:
    def __init__(self, config: Config, state: Durable | None, memory: act.Memory, now: float, adopted: bool = False,
                 marks: tuple[Mark, ...] = ()) -> None:
        """``state``: None if this host has forgotten it. ``adopted``: our daemon restarted, the QEMU that led before is still
        there, and its VM has been stopped. ``marks``: of this host's images."""
        self.config, self.memory, self.now, self.began = config, memory, now, now
        kinds = {m: v["kind"] for m, v in config.members.items()}
        self.consensus = Consensus(config.member, kinds, state, Timing.of(config), now)
        self.chronicle = Chronicle(now)
        self.late = LateInput()
        self.facts: dict = {}
        self.role: Leader | Follower
        self.recent: deque[tuple[float, Figures]] = deque(maxlen=RECENT_MAX)
        self.totals = dict.fromkeys(("syncvms", "dirty_pages", "divergent_pages", "bytes"), 0)
        self.fill_pages_mismatching = 0  # found at the end of initial syncs, since this daemon began
        self.cold = False
        self.marks = marks
        self.copies_failed = 0  # to our images, one after the other
        self._number = 0
        self._out: list = []
        self._stopped_for: act.Tag | None = None  # the last StopVm that no ContVm followed
        self._holds_state = False
        if adopted:
            self.role = Leader(self, RUNNING, Guard(config.guard_bytes_max), 0)
            self.role.active = False
            self.role.vm_stopped_by_us = True  # whatever the daemon before us had asked for: elected, we let it go on
            self.note_holder(True)
        else:
            self.role = Follower(self, "just started")
        self._set_eligible()

    # ---- for the roles --------------------------------------------------------------------------------
    def emit(self, *actions: object) -> None:
        self._flush()  # what consensus wants on disk or sent comes first
        for action in actions:
            if isinstance(action, act.StopVm):
                self._stopped_for = action.tag
            elif isinstance(action, (act.ContVm, act.StartQemu, act.KillQemu)):
                self._stopped_for = None
        self._out += actions

    def send(self, to: str, message: wire.Message) -> None:
        self.emit(Send(to, message))

    def report(self, text: str) -> None:
        self.emit(act.Report(text))

    @property
    def holds_state(self) -> bool:
        return self._holds_state

    def note_holder(self, holds: bool) -> None:
        """This replica's QEMU has (or lost) the VM's state."""
        self._holds_state = holds
        self._set_eligible()

    def become_follower(self, why: str, pause_s: float = 0.0) -> None:
        self.role = Follower(self, why, pause_s)
        self._set_eligible()

    def next_syncvm_number(self) -> int:
        self._number += 1
        return self._number

    @property
    def figures(self) -> Figures | None:
        """Of the last syncvm."""
        return self.recent[-1][1] if self.recent else None

    def record_figures(self, figures: Figures) -> None:
        self.recent.append((self.now, figures))
        self.totals["syncvms"] += 1
        for key in ("dirty_pages", "divergent_pages", "bytes"):
            self.totals[key] += getattr(figures, key)

    def _set_eligible(self) -> None:
        first_boot = (self.consensus.record.version == 0 and self.config.member == self.config.preferred_leader
                      and not why_torn(self.marks))
        self.consensus.eligible = self._holds_state or first_boot or self.cold

    @property
    def speak_until(self) -> float:
        """The event we are in was judged by its time: what it lets out must be on its way by then, or not go at all."""
        return self.consensus.fresh_until(self.now)

    @property
    def leading(self) -> Leader | None:
        return self.role if isinstance(self.role, Leader) and self.consensus.role == LEADER else None

    # ---- the event loop of the core -------------------------------------------------------------------
    def at(self, now: float) -> Director:
        self.now = now
        return self

    def take(self) -> list:
        self._flush()
        out, self._out = self._out, []
        return out

    def _flush(self) -> None:
        """Move consensus outputs over, in order, acting on elections as they come."""
        for item in self.consensus.take():
            if isinstance(item, (Persist, Send)):
                self._out.append(item)
            elif isinstance(item, Elected):
                self._on_elected()
            elif isinstance(item, Deposed):
                self._on_deposed(item)
            elif isinstance(item, RecordCommitted) and self.leading:
                self.leading.record_committed()

    def _on_elected(self) -> None:
        role = self.role
        note_election(self)
        self.late.cancel()
        if isinstance(role, Leader):
            self.report(f"leading again in view {self.consensus.view}")
        elif role.filled:
            self.report(f"elected in view {self.consensus.view}: taking over")
            self.role = Leader(self, PROMOTING, role.guard, role.applied)
            self.role.reprotection.note = self.chronicle.told
            if self.config.fence_policy != "off" and self.chronicle.cause in (FAILOVER, FORCED):
                policy = self.config.fence_policy if self.chronicle.cause == FAILOVER else "automatic"
                self.role.fencing = Fencing(policy, self.role.secondary, self.consensus.view)
                self.emit(*self.role.fencing.tick(self.now))
            self.role.finishing = role.syncvm if role.must_finish_load else None
            self.role.bring_tap_up_early()
            if self.role.finishing is not None:
                return  # nothing is recorded until it is loaded: who handed over keeps its copy that long
            self.emit(act.Promote(("promote", self.consensus.view)))
        elif not self.cold and (self.consensus.record.version or why_torn(self.marks)):
            raise InvariantViolation(f"elected in view {self.consensus.view} without the VM's state, and nobody asked for a "
                                     f"cold start. {why_torn(self.marks)}")
        else:
            self.report(f"elected in view {self.consensus.view} without a VM: booting it")
            self.cold = False
            self.role = Leader(self, BOOTING, Guard(self.config.guard_bytes_max), self.consensus.log.last_index)
            self.emit(act.KillQemu("booting the VM afresh"), act.StartQemu(incoming=False))
            return  # nothing is recorded until the guest runs
        self.role.begin()

    def _on_deposed(self, event: Deposed) -> None:
        if event.leader:
            self.emit(*self.chronicle.follows(self.now, event.view, event.leader, self.consensus.transfer_granted))
        if isinstance(self.role, Leader) and event.was_leader:
            self.report(f"deposed: view {event.view} began, led by {event.leader or 'nobody yet'}")
            self.role.suspend()
            if self.role.vm == BOOTING:  # it holds nothing, and nothing rests on it
                self.emit(act.KillQemu("deposed while the VM booted"))
                self.become_follower("deposed while the VM booted")
            elif self.role.own.lost:
                self.give_up_qemu(f"this host's image lacks a write ({self.role.own.lost})")
        elif isinstance(self.role, Follower) and self.role.fill and not self.role.recorded_in_sync:
            self.role.reset("the leader changed during our fill")
        elif isinstance(self.role, Follower):
            self.role.abandon_syncvm()

    def tick(self) -> None:
        if self.cold and cold_start.hears_leader(self):
            self.cold = False  # somebody leads: what a cold start was asked for is over
        self._set_eligible()
        self.consensus.tick(self.now)
        self._flush()
        if isinstance(self.role, Leader) and not self.role.active:
            self._check_superseded()
        self.role.tick()
        self.emit(*self.late.tick(self.now))
        if mode_of(self) != self.chronicle.mode:
            self.emit(*self.chronicle.look(self.now, mode_of(self), reason(self)))

    def _check_superseded(self) -> None:
        """Deposed, with a VM: once the new leader's record is here, ours is history.

        It may even name us, if it counts on the secondary that we were before we led: that copy is no more.
        """
        cons = self.consensus
        theirs = cons.record.view == cons.view or self.config.member not in cons.record.in_sync
        if cons.leader in cons.others and cons.record.version and theirs:
            self.report(f"{cons.leader} holds the VM's state now; dropping ours")
            self.note_holder(False)
            self.send(cons.leader, wire.Leave(cons.view, b"it has led in between"))
            self.emit(act.KillQemu("superseded"))
            self.become_follower("superseded")

    # ---- messages -------------------------------------------------------------------------------------
    def control(self, src: str, m: wire.Message) -> None:
        """A message on the control channel."""
        if isinstance(m, _LEADER_ONLY):
            if self.leading and m.view == self.consensus.view:
                if isinstance(m, wire.JoinRequest):
                    self.leading.reprotection.join_requested(m)
                else:
                    self.leading.reprotection.drop(f"{src} lost its copy: {m.payload.decode(errors='replace')[:200]}")
        elif isinstance(m, wire.JoinRefused):
            if isinstance(self.role, Follower):
                self.role.refused = m.payload.decode(errors="replace")[:500]
        elif isinstance(m, wire.TransferLeadership):
            if m.view == self.consensus.view and src == self.consensus.leader:
                why = m.payload.decode(errors="replace")[:200]
                if why:
                    self.chronicle.interrupted(self.now)
                self.chronicle.handover(self.now, HANDED_OVER if why else SWITCHOVER, why or "asked for by the operator")
                self.consensus.take_over(self.now)
        else:
            self.consensus.receive(self.now, src, m)
        self.settle()

    def settle(self) -> None:
        """The consensus may have come further."""
        self._flush()
        self.role.advance()
        if self.leading:
            self.leading.output_commit.release_confirmed()

    def data(self, m: wire.Message) -> None:
        """A message on the data channel. Of another view or syncvm: late, and passed over."""
        if m.view != self.consensus.view and not self._early(m):
            return
        leader = self.leading
        if isinstance(m, wire.LateInput):
            if leader:
                leader.late_input(checked(m.payload))
        elif leader:
            self._data_to_leader(leader, m)
        elif isinstance(self.role, Follower):
            self._data_to_follower(self.role, m)

    def _early(self, m: wire.Message) -> bool:
        """A leader's first word may overtake the news that it leads: the two channels are not ordered."""
        return isinstance(m, wire.Bitmap) and m.view > self.consensus.view and isinstance(self.role, Follower) and \
            self.role.filled

    def _data_to_leader(self, leader: Leader, m: wire.Message) -> None:
        if isinstance(m, wire.FillDone):
            if leader.fill and m.join == leader.fill.join:
                leader.reprotection.fill_done()
            return
        if isinstance(m, wire.FillHashes):
            if leader.fill and m.join == leader.fill.join:
                leader.reprotection.fill_hashed(leader.fill.on_hashes(m))
            return
        if not isinstance(m, _SECONDARY_SAYS):
            raise WireError(f"{type(m).__name__} sent to a leader")
        if not leader.syncvm or m.number != leader.syncvm.number:
            return
        if isinstance(m, wire.Bitmap):
            self._carry_on(leader.syncvm.on_bitmap(m))
        elif isinstance(m, wire.Hashes):
            leader.hashes_came(m)
        elif isinstance(m, wire.BlockHashes):
            self._carry_on(leader.syncvm.on_block_hashes(m))
        elif isinstance(m, wire.Resend):
            self.emit(*leader.syncvm.on_resend(m))
        elif isinstance(m, wire.DiskHashes):
            leader.syncvm.on_disk_hashes(m)
        elif isinstance(m, wire.Staged):
            leader.staged()
        else:
            leader.applied_by_secondary()

    def _data_to_follower(self, role: Follower, m: wire.Message) -> None:
        if isinstance(m, wire.FillPages):
            role.on_fill_pages(m)
        elif isinstance(m, wire.FillCheck):
            role.on_fill_check(m)
        elif isinstance(m, wire.FillState):
            role.on_fill_state(m)
        elif isinstance(m, wire.Bitmap):
            self.chronicle.interrupted(self.now)  # the leader's VM stands still; after a handover it does not run on there
            role.on_bitmap(m)
        elif isinstance(m, (wire.Divergent, wire.StageBlocks, wire.StagePages)):
            role.on_staging(m)
        elif isinstance(m, wire.StageEnd):
            role.on_stage_end(m)
        else:
            raise WireError(f"{type(m).__name__} sent to a secondary")

    def connected(self, other: str, timing: Timing | None = None) -> None:
        self.consensus.connected(other, timing)

    def data_lost(self) -> None:
        """The data channel broke."""
        if self.leading:
            self.leading.reprotection.drop(f"the data channel to {self.leading.secondary} broke")
        elif isinstance(self.role, Follower) and self.role.fill and not self.role.recorded_in_sync:
            self.role.reset("the data channel broke during our fill")

    def data_writable(self) -> None:
        work = self.leading and (self.leading.fill or self.leading.syncvm)
        if work:
            actions = work.writable()
            if work is self.leading.fill:
                self.leading.reprotection.fill_progress(actions)
            else:
                self._carry_on(actions)

    # ---- the VM's network ----------------------------------------------------------------------------
    def input(self, payload: bytes) -> None:
        """Frames from the TAP, one batch."""
        if self.leading:
            self.leading.input(payload)
        elif self.late.active(self):
            self.emit(*self.late.forward(self, payload))

    def output(self, frames: bytes) -> None:
        """Whole frames the VM sent."""
        self.role.output(frames)

    def idle(self, idle: bool) -> None:
        if self.leading:
            self.leading.maybe_syncvm(idle)

    # ---- answers --------------------------------------------------------------------------------------
    def _work(self, tag: act.Tag):
        """The syncvm or fill that waits for ``tag``; None if it was given up."""
        finishing = getattr(self.role, "finishing", None)
        return next((w for w in (self.role.syncvm, self.role.fill, finishing) if w is not None and w.tag == tag), None)

    def drained(self, tag: act.Tag) -> None:
        work = self._work(tag)
        if work:
            self.emit(*work.drained(self.now))

    def vm_stopped(self, tag: act.Tag) -> None:
        work, leader = self._work(tag), self.leading
        if leader and leader.own.lost:
            return  # it must not run on, nor be copied
        if leader and work is None and leader.active:
            # What asked for it was given up in the meantime. If it was asked for again since, the VM must stand still for
            # that: a ContVm now would come after the second stop, and memory would be copied while the VM runs.
            if self._stopped_for == tag:
                self.emit(act.ContVm())
        elif leader and work is not None:
            (leader.syncvm_stopped if work is leader.syncvm else leader.fill_stopped)()
        elif work is not None and isinstance(self.role, Follower):
            self.emit(*work.vm_stopped())

    def device_saved(self, tag: act.Tag, state: bytes) -> None:
        work = self._work(tag)
        if work:
            self._carry_on(work.device_saved(state))

    def _carry_on(self, actions: list) -> None:
        """What a fill or a syncvm wants done next; a leader's VM may run on then."""
        self.emit(*actions)
        if self.leading:
            self.leading.syncvm_captured()

    def stream_captured(self, tag: act.Tag, stream: bytes) -> None:
        work = self._work(tag)
        if work and self.leading:
            self.leading.reprotection.stream_captured(stream)

    def tracker_open(self, tag: act.Tag) -> None:
        work = self._work(tag)
        if work:
            self.emit(*work.tracker_open())

    def dirty_fetched(self, tag: act.Tag) -> None:
        work = self._work(tag)
        if work and self.leading:
            self.leading.reprotection.fill_progress(work.dirty_fetched())

    def copy_progress(self, tag: act.Tag, done: int, total: int) -> None:
        """Of the disks, in bytes."""
        work = self._work(tag)
        if work:
            work.copy_progress(done, total, self.now)

    def disks_copied(self, tag: act.Tag) -> None:
        work = self._work(tag)
        if work and self.leading:
            self.leading.reprotection.fill_progress(work.disks_copied())

    def disks_attached(self, tag: act.Tag) -> None:
        work = self._work(tag)
        if work and self.leading:
            self.leading.reprotection.fill_progress(work.disks_attached())

    def disks_hashed(self, tag: act.Tag, hashes: bytes) -> None:
        """Of an audit of disks."""
        if self._work(tag) is self.role.syncvm is not None:
            self.role.disks_hashed(hashes)

    def disk_pressure(self, written: int) -> None:
        """What the guest wrote since the last syncvm may take so many bytes of the secondary's overlays that one is due."""
        if self.leading:
            self.leading.disk_pressure = True
            self.leading.maybe_syncvm()

    def disk_failed(self, node: str, error: str, lost: bool = False) -> None:
        """QEMU could not read or write a node of its block graph (named in disks/images.py).

        ``lost``: it may have told the guest that the write is done.
        """
        if isinstance(self.role, Follower):
            self.role.reset(f"{node}: {error}", tell=True)
        else:
            self.role.disk_failed(node, error, lost)

    def vm_waits_for_disk(self, error: str) -> None:
        """QEMU has stopped the VM at an error of its disk, instead of telling the guest."""
        if isinstance(self.role, Leader):
            self.role.vm_waits_for_disk(error)

    def disks_merged(self) -> None:
        """What the VM wrote before a failover is in the images, or there was no failover."""
        if isinstance(self.role, Leader):
            self.emit(*self.role.own.merged())

    def disks_unmerged(self, error: str) -> None:
        """The merge does not go on, until MergeDisks."""
        if isinstance(self.role, Leader):
            self.emit(*self.role.own.merge_failed(self.now, error))

    def copy_lost(self, tag: act.Tag, error: str) -> None:
        """Something that was written to our images did not get to the disk: a VM that reads it gets what it did not write."""
        self.copies_failed += 1
        if isinstance(self.role, Follower):
            self.role.copy_lost(error)
        else:
            self.give_up_qemu(f"this host's disks lost what was written to them: {error}")

    def colo_ready(self, tag: act.Tag) -> None:
        if self._work(tag) and isinstance(self.role, Follower):
            self.role.colo_ready()

    def hashed(self, tag: act.Tag, hashes: array) -> None:
        work = self._work(tag)
        if work and self.leading and work is self.leading.fill:
            self.leading.reprotection.fill_hashed(work.hashed(hashes))
        elif work:
            self._carry_on(work.hashed(hashes))

    def packed(self, tag: act.Tag, payloads: list[bytes]) -> None:
        work = self._work(tag)
        if work and self.leading:
            self._carry_on(work.packed(payloads))

    def blocks_hashed(self, tag: act.Tag, hashes: array) -> None:
        if isinstance(self.role, Follower) and self._work(tag) is self.role.syncvm is not None:
            self.emit(*self.role.syncvm.blocks_hashed(hashes))

    def vm_reset(self, tag: act.Tag) -> None:
        work = self._work(tag)
        if work:
            self.emit(*work.vm_reset())

    def colo_loaded(self, tag: act.Tag) -> None:
        if self._work(tag) is None:
            return
        if isinstance(self.role, Leader):
            self.role.finishing = None
            self.emit(act.Promote(("promote", self.consensus.view)))
            if self.leading:
                self.role.begin()
        else:
            self.role.colo_loaded()

    def tap_ready(self) -> None:
        """The TAP is up: clients reach the VM."""
        if self.leading:
            self.emit(*self.chronicle.serving(self.now, self.consensus.view))

    def fenced(self, tag: act.Tag, error: str | None) -> None:
        """The fence agent ended; ``error``: why it did not succeed."""
        if isinstance(self.role, Leader) and self.role.fencing and self.role.fencing.tag == tag:
            self.role.fenced(self.role.fencing, error)

    def promoted(self) -> None:
        if isinstance(self.role, Leader):
            self.role.vm_running()

    def failed(self, tag: act.Tag, error: str) -> None:
        """An action failed. A secondary starts over; a leader's QEMU that refuses is as good as dead."""
        if isinstance(self.role, Follower):
            self.role.reset(error, tell=True)
        elif self._work(tag) is self.role.fill is not None:
            self.role.reprotection.fill_failed(error)
        else:
            self.role.qemu_refused(error)

    def give_up_qemu(self, why: str) -> None:
        """Our QEMU is of no use any more: as if it had died."""
        self.emit(act.KillQemu(why))
        self.qemu_exited(why)

    def qemu_ready(self, facts: dict) -> None:
        """QEMU is up; ``facts``: what must be equal on both replicas."""
        self.facts = facts
        if isinstance(self.role, Follower):
            self.role.qemu_ready()
        elif self.role.vm == BOOTING and self.leading:
            self.role.begin()
            self.role.vm_running()

    def qemu_exited(self, why: str) -> None:
        """QEMU is gone, and we did not ask for it."""
        self.note_holder(False)
        leader = self.leading
        if leader and leader.protected:
            self.report(f"{why}; handing the VM to {leader.secondary}")
            self.send(leader.secondary, wire.TransferLeadership(self.consensus.view, why.encode()))
            self.chronicle.handover(self.now, HANDED_OVER, why)
        self.report(f"this host's copy of the VM is gone: {why}")
        self.consensus.resign()
        self.emit(act.TapDown(), act.CloseData())
        if leader or isinstance(self.role, Leader):
            self.role.active = False
            self.become_follower(why)
        else:
            self.role.reset(why, tell=True)

    # ---- the operator ---------------------------------------------------------------------------------
    def switchover(self, answer: Callable[[str | None], None]) -> None:
        """``answer(None)`` once another member leads, else ``answer(reason)``."""
        leader = self.leading
        if not leader:
            answer(f"this host does not lead; ask {self.consensus.leader or 'the leader once there is one'}")
        elif not leader.protected or leader.switchover.asked:
            answer("a switchover is under way" if leader.switchover.asked else f"not protected: {leader.reprotection.note}")
        else:
            leader.switchover.ask(answer)
            leader.maybe_syncvm()

    def audit(self, answer: Callable[[Figures | str], None], disks: bool = False) -> None:
        leader = self.leading
        if not leader:
            answer(f"this host does not lead; ask {self.consensus.leader or 'the leader once there is one'}")
        elif not leader.protected:
            answer(f"not protected, there is nothing to compare: {leader.reprotection.note}")
        else:
            leader.audits.ask(answer, disks)
            leader.maybe_syncvm()

    def cold_start(self, forced: bool = False) -> str | None:
        """The VM's state is lost on all hosts: boot it afresh. Returns why not, if so."""
        why_not = cold_start.start(self, forced)
        self._set_eligible()
        return why_not

    def status(self) -> dict:
        return describe(self)
