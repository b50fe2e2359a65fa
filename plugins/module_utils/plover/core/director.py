# SPDX-License-Identifier: GPL-3.0-or-later
"""The replica's core: its consensus, its present role (leader or follower), and the link between them. Sans-I/O.

Events come in through methods, after :meth:`Director.at` has set the time; effects go out through :meth:`Director.take`, in
order. Where to read on:
    transitions.py           changes of role: the failover of the whole system
    routes.py                which answer and which message goes to which method
    leader.py, follower.py   the roles; director_port.py declares what they ask of the director
    operator_calls.py, cold_start.py, force.py   the operator's commands
    status.py                the state as an operator sees it
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from ..config.settings import Config
from ..config.timing import Timing
from ..consensus.consensus import Consensus
from ..consensus.durable import Durable
from ..consensus.effects import Deposed, Elected, Persist, RecordCommitted, Send
from ..ports import effects
from ..ports.comparison import Comparison
from ..protocol import wire
from ..syncvm.figures import Figures
from . import cold_start, operator_calls
from .comparison import Reference
from .counters import Counters
from .disk_marks import Mark
from .drill import Drill
from .event_log import EventLog
from .follower import Follower
from .guest_clock import GuestClock
from .late_input import LateInput
from .leader import Leader
from .rest import Rest
from .router import Router
from .scrub import Scrub
from .status import describe, mode_of, reason
from .transitions import Transitions

RECENT_MAX = 1024  # syncvms whose figures are kept


class Director:
    def __init__(
        self,
        config: Config,
        state: Durable | None,
        memory: effects.Memory,
        now: float,
        adopted: bool = False,
        marks: tuple[Mark, ...] = (),
        comparison: Comparison | None = None,
    ) -> None:
        """``state``: None if this host has forgotten it. ``adopted``: our daemon restarted; the QEMU that led before is still
        there, and its VM has been stopped. ``marks``: of this host's images. ``comparison``: None for the reference."""
        self.config, self.memory, self.now, self.began = config, memory, now, now
        self.comparison: Comparison = comparison or Reference()
        kinds = {m: v["kind"] for m, v in config.members.items()}
        self.consensus = Consensus(config.member, kinds, state, Timing.of(config), now)
        self.event_log = EventLog(now)
        self.late = LateInput()
        self.drills = Drill()
        self.facts: dict[str, Any] = {}
        self.recent: deque[tuple[float, Figures]] = deque(maxlen=RECENT_MAX)
        self.counters = Counters()
        self.guest_clock = GuestClock()
        self.scrub, self.rest = Scrub(memory.pages, config.scrub_interval_s), Rest(config, memory.pages)
        self.fill_pages_mismatching = 0
        self.cold = False
        self.marks = marks
        self.copies_failed = 0
        self.unsent_bytes = 0
        self.stopped_for: effects.Tag | None = None
        self._syncvms_begun = 0
        self._out: list[Any] = []
        self._transitions = Transitions(self, adopted)
        self._router = Router(self._transitions)

    @property
    def role(self) -> Leader | Follower:
        return self._transitions.role

    @property
    def leading(self) -> Leader | None:
        return self._transitions.leading

    @property
    def holds_state(self) -> bool:
        return self._transitions.holds_state

    # ---- for the roles (director_port.py) -------------------------------------------------------------
    def emit(self, *actions: object) -> None:
        self._flush()  # the consensus' effects come first: Persist before Send
        for action in actions:
            if isinstance(action, effects.StopVm):
                self.stopped_for = action.tag
                self.counters.vm_stops(self.now)
            elif isinstance(action, (effects.ContVm, effects.StartQemu, effects.KillQemu)):
                self.stopped_for = None
                if isinstance(action, effects.ContVm):
                    self.counters.vm_runs(self.now)
                else:
                    self.counters.vm_gone()
        self._out += actions

    def send(self, to: str, message: wire.Message) -> None:
        self.emit(Send(to, message))

    def report(self, text: str) -> None:
        self.emit(effects.Report(text))

    def note_holder(self, holds: bool) -> None:
        self._transitions.note_holder(holds)

    def become_follower(self, why: str, pause_s: float = 0.0) -> None:
        self._transitions.become_follower(why, pause_s)

    def power_off(self, because: str) -> None:
        self._transitions.power_off(because)

    def give_up_qemu(self, why: str) -> None:
        self._transitions.give_up_qemu(why)

    def next_syncvm_number(self) -> int:
        self._syncvms_begun += 1
        return self._syncvms_begun

    def record_figures(self, figures: Figures) -> None:
        self.recent.append((self.now, figures))
        self.counters.syncvm(figures, self.now)
        self.rest.learn(figures, self.now)
        found = self.scrub.compared(figures, self.now)
        if found:
            self.report(found)

    @property
    def totals(self) -> dict[str, int]:
        """Over all syncvms since this daemon began."""
        return self.counters.totals

    @property
    def figures(self) -> Figures | None:
        """Of the last syncvm."""
        return self.recent[-1][1] if self.recent else None

    @property
    def speak_until(self) -> float:
        """Frames that the present event lets out must leave by then, or not at all: it was decided by the event's time."""
        return self.consensus.fresh_until(self.now)

    # ---- the event loop of the core -------------------------------------------------------------------
    def at(self, now: float) -> Director:
        self.now = now
        return self

    def take(self) -> list[Any]:
        self._flush()
        out, self._out = self._out, []
        return out

    def _flush(self) -> None:
        """Take the consensus' effects over, in order; act on its elections at once."""
        for item in self.consensus.take():
            if isinstance(item, (Persist, Send)):
                self._out.append(item)
            elif isinstance(item, Elected):
                self._transitions.elected()
            elif isinstance(item, Deposed):
                self._transitions.deposed(item)
            elif isinstance(item, RecordCommitted) and self.leading:
                self.leading.record_committed()

    def tick(self) -> None:
        if self.cold and cold_start.hears_leader(self):
            self.cold = False  # somebody leads: no cold start is needed any more
        self._transitions.set_eligible()
        self.consensus.tick(self.now)
        self._flush()
        self._transitions.check_superseded()
        self.role.tick()
        self.emit(*self.late.tick(self.now))
        if mode_of(self) != self.event_log.mode:
            self.emit(*self.event_log.look(self.now, mode_of(self), reason(self)))

    def settle(self) -> None:
        """The consensus may have made progress."""
        self._flush()
        self.role.advance()
        if self.leading:
            self.leading.output_commit.release_confirmed()

    # ---- events from this host ------------------------------------------------------------------------
    def answer(self, event: str, *arguments: Any) -> None:
        """The answer to an effect, or an event of QEMU's own: see routes.py."""
        self._router.answer(event, *arguments)

    def qemu_exited(self, why: str) -> None:
        """QEMU ended, and we did not end it."""
        self._transitions.qemu_exited(why)

    def input(self, payload: bytes) -> None:
        """One batch of frames from the TAP."""
        if self.leading:
            self.leading.incoming.take(payload)
        elif self.late.active(self):
            self.emit(*self.late.forward(self, payload))

    def output(self, frames: bytes) -> None:
        """Whole frames that the VM sent."""
        self.role.output(frames)

    def idle(self, idle: bool) -> None:
        """Whether the leader's VM is idle, at this moment."""
        if self.leading:
            self.leading.maybe_syncvm(idle)

    # ---- events from other members --------------------------------------------------------------------
    def control(self, src: str, m: wire.Message) -> None:
        """A message on the control channel."""
        self._router.control(src, m)
        self.settle()

    def data(self, m: wire.Message) -> None:
        """A message on the data channel."""
        self._router.data(m)

    def connected(self, other: str, timing: Timing | None = None) -> None:
        self.consensus.connected(other, timing)

    def data_lost(self) -> None:
        """The data channel broke."""
        if self.leading:
            self.leading.reprotection.drop(f"the data channel to {self.leading.secondary} broke")
        elif isinstance(self.role, Follower) and self.role.fill and not self.role.recorded_in_sync:
            self.role.reset("the data channel broke during our fill")

    def data_writable(self) -> None:
        """The data channel takes more."""
        self._router.writable()

    # ---- the operator ---------------------------------------------------------------------------------
    def switchover(self, answer: Callable[[str | None], None]) -> None:
        if self.leading:
            operator_calls.switchover(self.leading, answer)
        else:
            answer(operator_calls.not_leading(self.consensus.leader))

    def drill(self, answer: Callable[[str | None], None]) -> None:
        """A switchover after which the other replica is asked to hand the VM back. ``answer`` as above."""

        def switched(error: str | None) -> None:
            if error is None:
                self.drills = Drill(self.now)
            answer(error)

        self.switchover(switched)

    def audit(self, answer: Callable[[Figures | str], None], disks: bool = False) -> None:
        if self.leading:
            operator_calls.audit(self.leading, answer, disks)
        else:
            answer(operator_calls.not_leading(self.consensus.leader))

    def cold_start(self, forced: bool = False) -> str | None:
        """The VM's state is lost on all hosts: boot it afresh. Returns the reason if that is refused."""
        why_not = cold_start.start(self, forced)
        self._transitions.set_eligible()
        return why_not

    def status(self) -> dict[str, Any]:
        return describe(self)
