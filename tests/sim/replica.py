# SPDX-License-Identifier: GPL-3.0-or-later
"""The simulated replica daemon, as plover.replica: it carries out the core's actions, in order, and answers with events.

The decisions of the daemon's shell are taken here by the same rules: plover.core.shell_policy.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable

from plover.consensus.effects import Persist, Send
from plover.core import router
from plover.core import shell_policy as policy
from plover.core.director import Director
from plover.core.follower import Follower
from plover.native import zstd
from plover.ports import effects
from plover.protocol import wire
from plover.protocol.frames import split

from .comparisons import Both
from .disk_work import DiskWork
from .guest import MAC, Qemu, SimMemory
from .host import Host
from .member import Member, shown
from .vm_work import OPERATION_MS, VmWork

TAP_FRAMES = 100


class ReplicaMember(Member):
    comparison = Both()  # mutants break the reference, so they run it alone

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self.rng = random.Random(host.rng.getrandbits(64))
        self._slices = random.Random(f"slices {self.rng.getstate()}")  # of its own: a seed's faults stay as they are
        self.memory = SimMemory()
        self.disk_work = DiskWork(self)
        self.vm_work = VmWork(self, self.disk_work)
        self.tap_up = False
        self.tap_frames: deque[bytes] = deque(maxlen=TAP_FRAMES)  # that wait to be read
        self.watchdog_armed = False
        self.other = "secondary" if self.name == "primary" else "primary"
        self._executing = False
        self._idle_asked = False
        self.taken_bytes = 0
        self.kept_bytes = 0  # of a secondary's output since its last load: clients wait for it after a failover
        self.stop_at_emit: Callable[[], None] | None = None  # a fault: called when it has decided to speak
        self._rest: list = []
        self._speak_until: float | None = None  # of the actions in _rest
        self._does = self._ways()
        state = self._remembered()
        left, host.qemu = host.qemu, None
        adopted = left is not None and not left.dead and host.holder is left
        if adopted:
            self.vm_work.own(left)
            self.watchdog_armed = True
            self._adopt(left)
        elif left is not None:
            left.dead = True
        host.images.new_daemon()
        self.core = Director(self.config, state, self.memory, host.clock(), adopted, host.images.marks.now, self.comparison)
        self.consensus = self.core.consensus
        self._go_one_sided()
        if adopted:
            self.core.facts = {"qemu_version": "7.2.22"}
            self.disk_work.watch_merge(self.vm)
            if self.vm.ended:  # QEMU has told the daemon before this one
                world, event = self.world, "guest_off" if self.vm.off else "guest_panicked"
                world.loop.after(0.0, self, self.guest_says, self.vm, event)
        self.vm_work.note_holder()

    @property
    def vm(self) -> Qemu | None:
        return self.vm_work.vm

    def _ways(self) -> dict[type, Callable]:
        """Action -> how it is carried out. All others are QEMU operations, or messages to the operator only."""
        drop, send, after = self.world.network.drop, self.world.network.send, self._after
        return {
            Persist: self._persist,
            Send: lambda a: self.post(a.to, a.message),
            effects.SendData: lambda a: send(self.name, self.other, wire.DATA, a.message),
            effects.Inject: lambda a: self.vm and self.vm.feed([bytes(f[len(MAC) :]) for f in split(a.payload)]),
            effects.Emit: self._emit,
            effects.CloseData: lambda a: drop(self.name, self.other, wire.DATA),
            effects.Yield: lambda a: after(0.0006, "data_writable"),
            effects.Hash: lambda a: after(0.0003, "hashed", a.tag, self.memory.hash(a.index)),
            effects.HashBlocks: lambda a: after(0.0003, "blocks_hashed", a.tag, self.memory.hash_blocks(a.index)),
            effects.Pack: lambda a: after(0.001, "packed", a.tag, list(map(zstd.compress, a.payloads))),
            effects.Drain: self._begin_drain,
            effects.TapUp: self._tap_serves,
            effects.TapEarly: self._tap_early,
            effects.TapDown: self._tap_later,
            effects.KillQemu: self.vm_work.kill,
            effects.CopyDisks: self.disk_work.copy,
            effects.DetachDisks: self._detach_disks,
            effects.HashDisks: self.disk_work.hash,
            effects.HoldWrites: lambda _action: self.disk_work.hold(),
            effects.PassWrites: lambda _action: self.disk_work.pass_on(),
        }

    def _after(self, limit_s: float, event: str, *arguments: object) -> None:
        self.world.loop.after(limit_s * self.rng.random(), self, self.call, event, *arguments)

    def _adopt(self, vm: Qemu) -> None:
        """As plover.qemu.vm: the VM is stopped, whether it ran or not."""
        self.memory.qemu = vm
        vm.running, vm.stopped_as = False, vm.digest()

    def guest_says(self, vm: Qemu, event: str) -> None:
        if vm is self.vm:
            self.call(event, True)

    # ---- events -----------------------------------------------------------------------------------
    def call(self, event: str | Callable, *arguments: object) -> None:
        if not self.vm_work.dying:
            super().call(event, *arguments)

    def event(self, event: str | Callable[[Director], object], *arguments: object) -> None:
        core = self.core.at(self.host.clock())
        if callable(event):
            event(core)
        elif event in router.ANSWERS:
            core.answer(event, *arguments)
        else:
            getattr(core, event)(*arguments)

    def _wrote(self, leader: str, message: wire.Message) -> None:
        self.core.control(leader, message)

    def _card(self, event: str, *arguments: object) -> None:
        super()._card(event, *arguments)
        self.core.settle()

    def received(self, src: str, channel: int, message: wire.Message) -> None:
        if channel == wire.CONTROL:
            self.call("control", src, message)
        else:
            self.call("data", message)

    def link_down(self, channel: int) -> None:
        if channel == wire.DATA:
            self.call("data_lost")

    def output(self) -> None:
        """All output that is at the socket now."""
        if self.vm is not None and self.vm.outbox:
            frames = self.vm.take_output()
            self.taken_bytes += len(frames)
            self.kept_bytes += len(frames) if isinstance(self.core.role, Follower) else 0
            self.call("output", frames)

    def client_frame(self, frame: bytes) -> None:
        if self.tap_up:
            self.tap_frames.append(frame)
            self._read_tap()

    def _read_tap(self) -> None:
        """All frames that wait, as soon as they can go somewhere."""
        if self.tap_frames and self.tap_up and policy.reads_tap(self.core):
            frames = b"".join(self.tap_frames)
            self.tap_frames.clear()
            self.call("input", frames)

    # ---- actions ------------------------------------------------------------------------------------
    def run(self) -> None:
        if self._executing:
            return
        self._executing = True
        try:
            while actions := self._rest or self.core.take():
                self._rest = []
                for n, action in enumerate(actions):
                    if self.stop_at_emit and isinstance(action, effects.Emit) and any(action.chunks):
                        return self._stop_before(actions[n:])
                    self.world.does(self, action, self._do)
                self._speak_until = None
        finally:
            self._executing = False
        self._watch_idle()
        self._check_that_it_runs()
        self._read_tap()

    def _check_that_it_runs(self) -> None:
        """A leader that serves, with no QEMU operation pending or to come, must not leave its VM stopped."""
        vm = self.vm_work.vm
        if vm is None or vm.running or vm.dead or vm.off:  # off: QEMU is about to tell, or has
            return
        leader, busy = self.core.leading, self.vm_work.busy or self._rest
        waits = busy or leader and (leader._input_paused or leader.vm_stopped_by_us or leader._retry_at)
        if leader and leader.serving and leader.tap_up and not waits:
            self.world.ghost.fail(f"{self.name} serves, but its VM stands still, and nobody will let it go on")

    def _stop_before(self, rest: list) -> None:
        """A stop that hits between the core's decision and the wire: ``rest`` is done when the daemon goes on."""
        stop, self.stop_at_emit = self.stop_at_emit, None
        self.world.note(self.name, "stopped between its decision to speak and the wire")
        self._rest, self._speak_until = rest, self.core.speak_until
        stop()
        self.defer(self.call, ("tick",))

    def _do(self, action: object) -> None:
        if self.world.trace is not None:
            self.world.note(self.name, f"does {shown(action)}")
        if isinstance(action, effects.KillQemu) or (isinstance(action, effects.SendData) and isinstance(action.message, wire.Staged)):
            self.kept_bytes = 0
        way = self._does.get(type(action))
        if way is not None:
            way(action)
        elif type(action) in OPERATION_MS:
            self.vm_work.ask(action)

    def _persist(self, action: Persist) -> None:
        self.store.save(action.state)
        self.world.ghost.persisted(self.name, action.state)

    def _emit(self, action: effects.Emit) -> None:
        """Now and then only the first chunks leave in time."""
        rest = list(action.chunks)
        if policy.in_time(self.host.clock(), self._speak_until or self.core.speak_until):
            count = self._slices.randint(1, len(rest)) if len(rest) > 1 else 1
            self._speak([bytes(f) for chunk in rest[:count] for f in split(chunk)])
            rest = rest[count:]
        self.world.loop.after(0.0, self, self.call, "left", action.number, rest)

    def _speak(self, frames: list[bytes]) -> None:
        self.world.emit(self, frames)
        if frames and not self.watchdog_armed:
            self.world.ghost.fail(f"{self.name}: its VM speaks, and the watchdog is not armed")
        if frames and self.vm is not None:
            self.vm.spoke = True

    def _detach_disks(self, action: effects.DetachDisks) -> None:
        self.disk_work.cut()
        self.vm_work.ask(action)

    def _begin_drain(self, action: effects.Drain) -> None:
        limit_s = self.config.syncvm_drain_ms_max / 1000 if action.limit_s is None else action.limit_s
        end = self.world.loop.now + limit_s
        self.world.loop.after(0.0, self, self._drain, action.tag, end)

    def _drain(self, tag: object, end: float) -> None:
        if self.vm is not None and not self.vm.idle and self.world.loop.now < end:
            self.world.loop.after(0.001, self, self._drain, tag, end)
        else:
            self.call("drained", tag)

    def ticked(self) -> None:
        if policy.disarms_watchdog(self.core, bool(self.vm_work.operations.unreaped)):
            self.watchdog_armed, qemu = False, self.host.qemu
            if qemu is not None and qemu.spoke and not qemu.dead:
                self.world.ghost.fail(f"{self.name}: the watchdog is disarmed, and a QEMU that has spoken is still there")

    # ---- the TAP ------------------------------------------------------------------------------------
    def _tap_serves(self, action: effects.TapUp) -> None:
        self.world.ghost.serves(self)
        leader, kept_bytes, self.kept_bytes = self.core.leading, self.kept_bytes, 0
        if leader and leader.guard.bytes + leader.output_commit.outbox.bytes < kept_bytes:
            self.world.ghost.fail(f"{self.name} serves without the {kept_bytes} bytes that its VM has said since its last load")
        self._tap_early(action)

    def _tap_early(self, action: effects.TapUp | effects.TapEarly) -> None:
        self.watchdog_armed = True
        self._tap_later(action)

    def _tap_later(self, action: effects.TapUp | effects.TapEarly | effects.TapDown) -> None:
        self._tap_wanted = action
        self.world.loop.after(self.rng.uniform(0.003, 0.02), self, self._tap, action)

    def _tap(self, action: effects.TapUp | effects.TapEarly | effects.TapDown) -> None:
        if action is self._tap_wanted:
            if not self.tap_up:
                self.tap_frames.clear()
            self.tap_up = not isinstance(action, effects.TapDown)
            if isinstance(action, effects.TapUp):
                self.call("tap_ready")
            if self.tap_up:
                for at in policy.ANNOUNCE_AT_S:
                    self.world.loop.after(at, self, self._announce)

    def _announce(self) -> None:
        answer = policy.announces(self.core.at(self.host.clock()))
        if answer is policy.Announce.NOW:
            self.world.announced(self)
        elif answer is policy.Announce.LATER:
            self.world.loop.after(policy.SPEAK_LOOK_S, self, self._announce)

    def _watch_idle(self) -> None:
        if policy.watches_idle(self.core) and not self._idle_asked:
            self._idle_asked = True
            self.world.loop.after(self.rng.uniform(0.001, 0.004), self, self._idle)

    def _idle(self) -> None:
        self._idle_asked = False
        self.call("idle", self.vm is not None and self.vm.idle)

    def vm_exited(self, vm: Qemu) -> None:
        """QEMU ended by itself."""
        if self.vm is vm:
            self.vm_work.exited(vm)
            self.call("qemu_exited", "QEMU ended")
