# SPDX-License-Identifier: GPL-3.0-or-later
"""This replica's role, leader or follower, and every change of role. Sans-I/O.

elected      follower -> leader: take over the VM, or boot it. leader -> leader: go on in the new view
deposed      the leader keeps its VM stopped, and its output held, until a record says who holds the VM's state
superseded   another replica holds it: leader -> follower
QEMU gone    leader or follower -> follower; a leader asks its secondary to take over
reset        follower -> follower with an empty QEMU (core/follower.py says when)
"""

from __future__ import annotations

from ..consensus.effects import LEADER, Deposed
from ..errors import InvariantViolation
from ..ports import effects
from ..protocol import wire
from .director_port import DirectorPort
from .disk_marks import why_torn
from .event_log import COLD_START, FAILOVER, FIRST_BOOT, FORCED, HANDED_OVER, RE_ELECTED, SWITCHOVER
from .fencing import AUTOMATIC, OFF, Fencing
from .follower import Follower
from .guard import Guard
from .leader import BOOTING, PROMOTING, RUNNING, Leader


class Transitions:
    def __init__(self, core: DirectorPort, adopted: bool) -> None:
        """``adopted``: see :class:`~.director.Director`."""
        self.core, self._config, self._cons = core, core.config, core.consensus
        self.holds_state = adopted
        self.role: Leader | Follower
        if adopted:
            self.role = Leader(core, RUNNING, Guard(self._config.guard_bytes_max), 0)
            self.role.active = False
            self.role.vm_stopped_by_us = True  # the adoption stopped it; once elected, we let it run
        else:
            self.role = Follower(core, "just started")
        self.set_eligible()

    @property
    def leading(self) -> Leader | None:
        return self.role if isinstance(self.role, Leader) and self._cons.role == LEADER else None

    def set_eligible(self) -> None:
        """May this replica be elected? (invariant 5)"""
        first_boot = (
            self._cons.record.version == 0 and self._config.member == self._config.preferred_leader and not why_torn(self.core.marks)
        )
        self._cons.eligible = self.holds_state or first_boot or self.core.cold

    def note_holder(self, holds: bool) -> None:
        self.holds_state = holds
        self.set_eligible()

    def become_follower(self, why: str, pause_s: float = 0.0) -> None:
        if isinstance(self.role, Leader):
            self.core.unsent_bytes += self.role.output_commit.outbox.bytes
            self.role.audits.give_up(why)  # whoever waits for an answer is told
            self.role.switchover.end(why)
        self.role = Follower(self.core, why, pause_s)
        self.set_eligible()

    # ---- elected --------------------------------------------------------------------------------------
    def elected(self) -> None:
        role, core, cons = self.role, self.core, self._cons
        self._note_election()
        core.late.cancel()
        core.drills.leads()
        if isinstance(role, Leader):
            core.report(f"leading again in view {cons.view}")
            role.begin()
        elif role.filled:
            self._take_over(role)
        elif not core.cold and (cons.record.version or why_torn(core.marks)):
            raise InvariantViolation(
                f"elected in view {cons.view} without the VM's state, and nobody asked for a cold start. {why_torn(core.marks)}"
            )
        else:
            core.report(f"elected in view {cons.view} without a VM: booting it")
            core.cold = False
            self.role = Leader(core, BOOTING, Guard(self._config.guard_bytes_max), cons.log.last_index)
            # Nothing is recorded until the guest runs.
            core.emit(effects.KillQemu("booting the VM afresh"), effects.StartQemu(incoming=False))

    def _take_over(self, follower: Follower) -> None:
        core, view = self.core, self._cons.view
        core.report(f"elected in view {view}: taking over")
        leader = self.role = Leader(core, PROMOTING, follower.guard, follower.applied)
        leader.reprotection.note = core.event_log.told
        leader.fencing = self._fencing(leader.secondary)
        if leader.fencing:
            core.emit(*leader.fencing.tick(core.now))
        leader.finishing = follower.syncvm if follower.must_finish_load else None
        leader.power.inherit(follower.will_be_off, follower.all_know_off)
        leader.power.crash.inherit(follower.will_have_panicked, follower.all_know_off)
        leader.bring_tap_up_early()
        if leader.finishing is None:  # else record nothing until it is loaded: a leader that handed over keeps its copy until then
            core.emit(effects.Promote(("promote", view)))
            leader.begin()

    def _fencing(self, member: str) -> Fencing | None:
        """The fence agent's task after this election, if it has one."""
        policy, cause = self._config.fence_policy, self.core.event_log.cause
        if policy == OFF or cause not in (FAILOVER, FORCED):
            return None
        return Fencing(policy if cause == FAILOVER else AUTOMATIC, member, self._cons.view)

    def load_finished(self, leader: Leader) -> None:
        """The syncvm that was staged here before the election is loaded: promote the VM."""
        leader.finishing = None
        self.core.emit(effects.Promote(("promote", self._cons.view)))
        if self.leading:
            leader.begin()

    def _note_election(self) -> None:
        """For the event log: why this replica was elected, and since when clients wait. ``self.role`` is still the old role."""
        core, cons, role, log = self.core, self._cons, self.role, self.core.event_log
        handed = log.handed_over(core.now)
        if isinstance(role, Follower) and not (role.filled and handed):
            log.interrupted(cons.silent_since if role.filled else None)
        if cons.alone:
            cause, why = FORCED, "asked for by the operator"
        elif isinstance(role, Leader):
            cause, why = RE_ELECTED, "this host kept the VM"
        elif not role.filled:
            cause, why = (COLD_START, "asked for by the operator") if core.cold else (FIRST_BOOT, "")
        elif handed:
            cause, why = handed
        else:
            silent_ms = 1000 * (core.now - cons.silent_since)
            cause, why = (
                FAILOVER,
                (f"{log.leader or 'the leader'} was silent for {silent_ms:.0f} ms (detection_ms is {self._config.detection_ms})"),
            )
        core.emit(*log.led_by(cons.view, cons.me, cause, why))

    def asked_to_lead(self, src: str, m: wire.TransferLeadership) -> None:
        """The leader hands over: the operator asked for it, or the leader lost its QEMU."""
        if m.view != self._cons.view or src != self._cons.leader:
            return
        core, why = self.core, m.payload.decode(errors="replace")[:200]
        if core.drills.handed_back(core.now, why):
            why = ""  # a switchover like any other
        if why:
            core.event_log.interrupted(core.now)
        core.event_log.handover(core.now, HANDED_OVER if why else SWITCHOVER, why or "asked for by the operator")
        self._cons.take_over(core.now)

    # ---- deposed --------------------------------------------------------------------------------------
    def deposed(self, event: Deposed) -> None:
        """Another view began; followers are told as well."""
        core, role = self.core, self.role
        if event.leader:
            core.emit(*core.event_log.follows(core.now, event.view, event.leader, self._cons.votes.transfer_granted))
        if isinstance(role, Follower):
            if role.fill and not role.recorded_in_sync:
                role.reset("the leader changed during our fill")
            else:
                role.abandon_syncvm()
        elif event.was_leader:
            core.report(f"deposed: view {event.view} began, led by {event.leader or 'nobody yet'}")
            role.suspend()
            if role.vm == BOOTING:  # it holds no state that anybody relies on
                core.emit(effects.KillQemu("deposed while the VM booted"))
                self.become_follower("deposed while the VM booted")
            elif role.own.lost:
                self.give_up_qemu(f"this host's image lacks a write ({role.own.lost})")

    def check_superseded(self) -> None:
        """Deposed, with a VM: once the new leader's record is here, our VM is out of date.

        The record may even name us, if it counts on the secondary that we were before we led: that copy no longer exists.
        """
        core, cons = self.core, self._cons
        if not isinstance(self.role, Leader) or self.role.active:
            return
        theirs = cons.record.view == cons.view or self._config.member not in cons.record.in_sync
        if cons.leader in cons.others and cons.record.version and theirs:
            core.report(f"{cons.leader} holds the VM's state now; dropping ours")
            self.note_holder(False)
            core.send(cons.leader, wire.Leave(cons.view, b"it has led in between"))
            core.emit(effects.KillQemu("superseded"))
            self.become_follower("superseded")

    # ---- QEMU -----------------------------------------------------------------------------------------
    def qemu_ready(self) -> None:
        if isinstance(self.role, Follower):
            self.role.qemu_ready()
        elif self.role.vm == BOOTING and self.leading:
            self.role.begin()
            self.role.vm_running()

    def power_off(self, because: str) -> None:
        """A quorum has recorded that the VM is off, and everything is where it belongs."""
        core, why = self.core, "the VM is off"
        core.report(f"{why}: {because}; 'ploverctl start' boots it again")
        self.note_holder(False)
        core.emit(effects.KillQemu(why))
        self._lead_no_more(why)

    def _lead_no_more(self, why: str) -> None:
        """We have no VM any more."""
        self._cons.resign()
        self.core.emit(effects.TapDown(), effects.CloseData())
        if isinstance(self.role, Leader):
            self.role.active = False
            self.become_follower(why)

    def give_up_qemu(self, why: str) -> None:
        self.core.emit(effects.KillQemu(why))
        self.qemu_exited(why)

    def qemu_exited(self, why: str) -> None:
        """QEMU ended, and we did not end it."""
        core = self.core
        self.note_holder(False)
        leader = self.leading
        if leader and leader.protected:
            core.report(f"{why}; handing the VM to {leader.secondary}")
            core.send(leader.secondary, wire.TransferLeadership(self._cons.view, why.encode()))
            core.event_log.handover(core.now, HANDED_OVER, why)
        core.report(f"this host's copy of the VM is gone: {why}")
        follower = self.role if isinstance(self.role, Follower) else None
        self._lead_no_more(why)
        if follower:
            follower.reset(why, tell=True)
