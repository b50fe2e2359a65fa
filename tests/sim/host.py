# SPDX-License-Identifier: GPL-3.0-or-later
"""One simulated host: its disk and clock, and the shell that stands in for the daemon's.

It carries out the core's actions as plover.replica and plover.witness do, over simulated QEMUs: the VM's operations one
after the other, each taking its time, answers as events. What the real shell decides nothing about, this one does not.
"""
from __future__ import annotations

import random
import re
from array import array
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from plover.config.settings import Config
from plover.config.timing import Timing
from plover.consensus.consensus import Consensus
from plover.consensus.durable import Durable
from plover.consensus.effects import Persist, Send
from plover.consensus.one_sided import OneSided
from plover.core import router
from plover.core.director import Director
from plover.core.leader import RUNNING, Leader
from plover.dataplane.last_output import LastOutput
from plover.errors import DurableStateError, InvariantViolation, WireError
from plover.host.store import FIRST_BOOT, Store
from plover.native import zstd
from plover.ports import effects as act
from plover.protocol import wire
from plover.protocol.frames import split

from .blocks import BLOCKS, FINE, FULL, GONE, SILENT, TORN, Drive
from .card import SimCard
from .disk import PowerLoss, SimDisk
from .guest import DISK0, MAC, Qemu, SimMemory
from .images import MERGE_S, Images
from .loop import Process

if TYPE_CHECKING:
    from .world import World

TICK_S = 0.005
ANNOUNCE_AT_S = (0.0, 0.05, 0.2, 0.5, 1.0)  # as plover.replica does
RESTART_S = 0.15  # systemd's RestartSec, shortened
OPERATION_MS = {act.StopVm: (0.3, 2), act.ContVm: (0.1, 0.5), act.SaveDevice: (0.5, 3), act.CaptureStream: (5, 20),
                act.FeedStream: (5, 20), act.ColoStop: (0.3, 3), act.ColoLoad: (1, 8), act.Promote: (1, 12),
                act.OpenTracker: (0.1, 0.5), act.FetchDirty: (0.0, 0.02), act.AttachDisks: (1, 10),
                act.ResetVm: (0.3, 2), act.DetachDisks: (0.2, 1), act.MergeDisks: (1, 10), act.StartQemu: (20, 50),
                act.KillQemu: (1, 10)}
SCAN_MS = (1, 40)  # so much longer with tracking by scan, if dirty pages are asked for in the answer:
ROUND_MS = (0.1, 0.3)  # a question to QEMU and its answer; of a VM with little to say they are in the time of its stop
SCANNED = (act.OpenTracker, act.FetchDirty, act.StopVm, act.ColoStop, act.CaptureStream)


class Host:
    """What stays when a daemon dies: the disk, the clock, the QEMU in its own unit, the note who holds the VM."""

    def __init__(self, world: World, name: str, config: Config) -> None:
        self.world, self.name, self.config = world, name, config
        self.rng = random.Random(world.rng.getrandbits(64))
        self.disk = SimDisk(self.rng)
        self.disk.mark(FIRST_BOOT)
        self.clock_offset_s, self.clock_rate = self.rng.uniform(0, 1000), 1 + self.rng.uniform(-1e-4, 1e-4)
        self.qemu: Qemu | None = None
        self.holder: Qemu | None = None
        self.image = [0] * BLOCKS
        self.unsynced: set[int] = set()  # blocks of the image that a power loss may take
        # Which copies of a leader's disk the image is: on the disk, and as long as there is no power loss.
        self.copies: list[str] = []
        self.copies_begun: list[str] = []
        self.loses_writes = False
        self.images = Images(self)
        self.image_fails = self.merge_fails = False
        self.on = True
        self.frozen = 0

    def lose_unsynced(self) -> None:
        """In a power loss."""
        for block in self.unsynced:
            if self.rng.random() < 0.5:
                self.image[block] = TORN
        self.unsynced.clear()
        self.images.power_loss()
        self.copies_begun = []

    def clock(self) -> float:
        return self.clock_offset_s + self.clock_rate * self.world.loop.now


class Member(Process):
    """A daemon of either kind."""

    consensus: Consensus

    def __init__(self, host: Host) -> None:
        super().__init__(host.world.loop)
        self.host, self.world, self.name, self.config = host, host.world, host.name, host.config
        self.holds = host.frozen
        self.store = Store(Path("/state"), host.disk)
        self.one_sided: OneSided | None = None

    def _remembered(self) -> Durable | None:
        state = self.store.begin()
        if state is None:
            self.world.note(self.name, "has forgotten what it promised")
        return state

    def _go_one_sided(self) -> None:
        """As with `transport: rdma`: what a leader says is written into our memory."""
        if self.world.one_sided:
            self.one_sided = OneSided(self.consensus, SimCard(self), 1, self._wrote, self.world.new_boot())

    def _wrote(self, leader: str, message: wire.Message) -> None:
        raise NotImplementedError

    def look(self) -> None:
        """At our memory."""
        self.call(self._poll)

    def _poll(self, *core: object) -> None:
        if self.one_sided:
            self.one_sided.poll(self.host.clock())

    def card_says(self, event: str, *arguments: object) -> None:
        self.call(lambda *core: self._card(event, *arguments))

    def _card(self, event: str, *arguments: object) -> None:
        getattr(self.one_sided, event)(self.host.clock(), *arguments)

    def post(self, to: str, message: wire.Message) -> None:
        """A message of our consensus."""
        if self.one_sided is None:
            return self.world.network.send(self.name, to, wire.CONTROL, message)
        self.one_sided.send(self.host.clock(), to, message)
        self.post_rest()

    def post_rest(self) -> None:
        for to, message in self.one_sided.take() if self.one_sided else ():
            self.world.network.send(self.name, to, wire.CONTROL, message)

    def start(self) -> None:
        self.world.loop.after(0.0, self, self._tick)

    def _tick(self) -> None:
        self._poll_first()
        self.call("tick")
        if self.one_sided:
            self.call(lambda *core: self.one_sided.tick(self.host.clock()))
        self.world.loop.after(TICK_S, self, self._tick)

    def _poll_first(self) -> None:
        """Before a tick judges who is silent."""
        if self.one_sided:
            self.look()

    def call(self, event: str | Callable, *arguments: object) -> None:
        """An event for the core, and what it wants done."""
        try:
            self.event(event, *arguments)
            self.run()
            self.post_rest()
            self.world.ghost.after_step(self)
        except WireError as error:
            self.world.note(self.name, f"refused: {error}")
            self.refused_message()
        except DurableStateError as error:
            self.world.note(self.name, f"ends: {error}")
            self.world.kill_daemon(self.name)
        except PowerLoss:
            self.world.power_loss(self.name)
        except InvariantViolation as error:
            self.world.ghost.fail(f"{self.name}: {error}")

    def event(self, event: str, *arguments: object) -> None:
        raise NotImplementedError

    def run(self) -> None:
        raise NotImplementedError

    def refused_message(self) -> None:
        src, channel = self._from
        self.world.network.drop(self.name, src, channel)

    def message(self, src: str, channel: int, message: wire.Message) -> None:
        self._from = (src, channel)
        if self.world.trace is not None and not isinstance(message, (wire.Heartbeat, wire.HeartbeatAck)):
            self.world.note(self.name, f"<- {src} {shown(message)}")
        if channel == wire.DATA or self.one_sided is None or isinstance(message, (wire.JoinRequest, wire.Leave)):
            self.received(src, channel, message)
        else:
            self.call(lambda *core: self.one_sided.receive(self.host.clock(), src, message))

    def received(self, src: str, channel: int, message: wire.Message) -> None:
        raise NotImplementedError

    def link_up(self, other: str, channel: int) -> None:
        if channel == wire.CONTROL:
            if self.one_sided:
                self.one_sided.connected(other)
            self.call("connected", other, Timing.of(self.world.hosts[other].config))

    def link_down(self, channel: int) -> None:
        pass


class WitnessMember(Member):
    core = None

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        kinds = {m: v["kind"] for m, v in self.config.members.items()}
        self.consensus = Consensus(self.name, kinds, self._remembered(), Timing.of(self.config), host.clock())
        self._go_one_sided()

    def _wrote(self, leader: str, message: wire.Message) -> None:
        self.consensus.receive(self.host.clock(), leader, message)

    def event(self, event: str | Callable, *arguments: object) -> None:
        if callable(event):
            event()
        elif event == "tick":
            self.consensus.tick(self.host.clock())
        else:
            getattr(self.consensus, event)(*arguments)

    def received(self, src: str, channel: int, message: wire.Message) -> None:
        if channel == wire.CONTROL and not isinstance(message, (wire.JoinRequest, wire.Leave)):
            self.call("receive", self.host.clock(), src, message)

    def run(self) -> None:
        for item in self.consensus.take():
            if isinstance(item, Persist):
                self.store.save(item.state)
                self.world.ghost.persisted(self.name, item.state)
            elif isinstance(item, Send):
                self.post(item.to, item.message)


class ReplicaMember(Member):
    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self.rng = random.Random(host.rng.getrandbits(64))
        self.memory = SimMemory()
        self.vm: Qemu | None = None
        self.tap_up = False
        self.other = "secondary" if self.name == "primary" else "primary"
        self._work: deque = deque()
        self._busy: object = None
        self._executing = False
        self._idle_asked = False
        self.fail_next = False
        self.dies_after: int | None = None  # a fault: so many operations of QEMU from now, before it learns of the last
        self._dying = False
        self.taken_bytes = 0
        self._copying: act.CopyDisks | None = None
        self.stop_at_emit: Callable[[], None] | None = None  # a fault: called when it has decided to speak
        self._rest: list = []
        self._speak_until: float | None = None  # of what is in _rest
        state = self._remembered()
        left, host.qemu = host.qemu, None
        adopted = left is not None and not left.dead and host.holder is left
        if adopted:
            self._own(left)
            self._adopt(left)
        elif left is not None:
            left.dead = True
        host.images.new_daemon()
        self.core = Director(self.config, state, self.memory, host.clock(), adopted, host.images.marks.now)
        self.consensus = self.core.consensus
        self._go_one_sided()
        if adopted:
            self.core.facts = {"qemu_version": "7.2.22"}
            self._watch_merge(self.vm)
        self._note_holder()

    def _adopt(self, vm: Qemu) -> None:
        """As plover.qemu.vm: whatever its VM did, it stands still now."""
        self.memory.qemu = vm
        vm.running, vm.stopped_as = False, vm.digest()

    # ---- events -----------------------------------------------------------------------------------
    def call(self, event: str | Callable, *arguments: object) -> None:
        if not self._dying:
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
            self.call("output", frames)

    def client_frame(self, frame: bytes) -> None:
        leading = self.core.leading
        reads = (leading and leading.tap_up and leading.accepts_input) or self.core.late.active(self.core)
        if self.tap_up and reads:
            self.call("input", frame)

    # ---- actions ------------------------------------------------------------------------------------
    def run(self) -> None:
        if self._executing:
            return
        self._executing = True
        try:
            while actions := self._rest or self.core.take():
                self._rest = []
                for n, action in enumerate(actions):
                    if self.stop_at_emit and isinstance(action, act.Emit) and any(action.chunks):
                        return self._stop_before(actions[n:])
                    self._do(action)
                self._speak_until = None
        finally:
            self._executing = False
        self._watch_idle()
        self._check_that_it_runs()

    def _check_that_it_runs(self) -> None:
        """Clients are served, nothing is asked of QEMU and nothing will be: then its VM must not stand still."""
        leader, busy = self.core.leading, self._busy is not None or self._work or self._rest
        waits = busy or leader and (leader._input_paused or leader.vm_stopped_by_us or leader._retry_at)
        if leader and leader.serving and leader.tap_up and self.vm and not (waits or self.vm.running or self.vm.dead):
            self.world.ghost.fail(f"{self.name} serves, but its VM stands still, and nobody will let it go on")

    def _stop_before(self, rest: list) -> None:
        """A stop that hits between the core's decision and the wire: ``rest`` is done when the daemon goes on."""
        stop, self.stop_at_emit = self.stop_at_emit, None
        self.world.note(self.name, "stopped between its decision to speak and the wire")
        self._rest, self._speak_until = rest, self.core.speak_until
        stop()
        self.defer(self.call, ("tick",))

    def _speaks_now(self) -> bool:
        """As plover.dataplane.tap: what was decided too long ago is dropped."""
        return self.host.clock() <= (self._speak_until or self.core.speak_until)

    def _do(self, action: object) -> None:
        kind = type(action)
        if self.world.trace is not None:
            self.world.note(self.name, f"does {shown(action)}")
        if kind is Persist:
            self.store.save(action.state)
            self.world.ghost.persisted(self.name, action.state)
        elif kind is Send:
            self.post(action.to, action.message)
        elif kind is act.SendData:
            self.world.network.send(self.name, self.other, wire.DATA, action.message)
        elif kind is act.Inject:
            if self.vm is not None:
                self.vm.feed([bytes(f[len(MAC):]) for f in split(action.payload)])
        elif kind is act.Emit and self._speaks_now():
            self.world.emit(self, [bytes(f) for chunk in action.chunks for f in split(chunk)])
        elif kind is act.CloseData:
            self.world.network.drop(self.name, self.other, wire.DATA)
        elif kind is act.Yield:
            self.world.loop.after(0.0006 * self.rng.random(), self, self.call, "data_writable")
        elif kind in (act.Hash, act.HashBlocks):
            work, event = {act.Hash: (self.memory.hash, "hashed"),
                           act.HashBlocks: (self.memory.hash_blocks, "blocks_hashed")}[kind]
            self.world.loop.after(0.0003 * self.rng.random(), self, self.call, event, action.tag, work(action.index))
        elif kind is act.Pack:
            packed = list(map(zstd.compress, action.payloads))
            self.world.loop.after(0.001 * self.rng.random(), self, self.call, "packed", action.tag, packed)
        elif kind is act.Drain:
            limit_s = self.config.syncvm_drain_ms_max / 1000 if action.limit_s is None else action.limit_s
            end = self.world.loop.now + limit_s
            self.world.loop.after(0.0, self, self._drain, action.tag, end)
        elif kind in (act.TapUp, act.TapEarly, act.TapDown):
            if kind is act.TapUp:
                self.world.ghost.serves(self)
            self._tap_wanted = action
            self.world.loop.after(self.rng.uniform(0.003, 0.02), self, self._tap, action)
        elif kind is act.KillQemu:
            self._kill(action)
        elif kind is act.CopyDisks:
            self._copying = action
            self.world.loop.after(self.rng.uniform(0.005, 0.04), self, self._copied, self.vm, action)
        elif kind is act.HashDisks:
            self.world.loop.after(self.rng.uniform(0.001, 0.06), self, self._disks_hashed, action)
        elif kind in OPERATION_MS:
            if kind is act.DetachDisks:
                self._copying = None
                self._cut_disk()
            self._queue(self.vm, action)

    def _drain(self, tag: object, end: float) -> None:
        if self.vm is not None and self.vm.inbox and self.world.loop.now < end:
            self.world.loop.after(0.001, self, self._drain, tag, end)
        else:
            self.call("drained", tag)

    def _tap(self, action: object) -> None:
        if action is self._tap_wanted:
            self.tap_up = not isinstance(action, act.TapDown)
            for at in ANNOUNCE_AT_S if self.tap_up else ():
                self.world.loop.after(at, self, self._announce)

    def _announce(self) -> None:
        leading = self.core.at(self.host.clock()).leading
        if leading and leading.speaks:
            self.world.announced(self)
        elif leading and (leading.tap_up or leading.tap_early):
            self.world.loop.after(0.002, self, self._announce)

    def _watch_idle(self) -> None:
        leading = self.core.leading
        waits = leading and leading.guard.unmarked_bytes and not leading.syncvm and leading.protected
        if waits and not self._idle_asked:
            self._idle_asked = True
            self.world.loop.after(self.rng.uniform(0.001, 0.004), self, self._idle)

    def _idle(self) -> None:
        self._idle_asked = False
        self.call("idle", self.vm is not None and not self.vm.inbox)

    # ---- QEMU's operations, in order --------------------------------------------------------------
    def _own(self, qemu: Qemu) -> None:
        self.vm = self.host.qemu = qemu
        qemu.on_output = lambda: self.dead or self.world.loop.after(0.0, self, self.output)

    def _kill(self, action: act.KillQemu) -> None:
        vm, self.vm = self.vm, None
        self._note_holder()
        self._work.clear()
        self._busy = None
        if vm is not None:
            self._queue(vm, action)

    def _queue(self, vm: Qemu | None, action: object) -> None:
        self._work.append((vm, action))
        if self._busy is None:
            self._next()

    def _next(self) -> None:
        while self._work:
            vm, action = self._work.popleft()
            if isinstance(action, act.StartQemu):
                vm = None
            elif vm is None:
                continue
            delay_ms = self.rng.uniform(*OPERATION_MS[type(action)])
            if self.world.scans and isinstance(action, SCANNED) and getattr(action, "dirty", True):
                delay_ms += self.rng.uniform(*SCAN_MS)
            self._busy = action
            # A hung QEMU answers late, a killed one never.
            owner = vm if vm is not None and not isinstance(action, act.KillQemu) else self
            self.world.loop.after(delay_ms / 1000, owner, self._done, vm, action)
            return
        self._busy = None

    def _done(self, vm: Qemu | None, action: object) -> None:
        self.world.loop.after(0.0, self, self._finish, vm, action)

    def _finish(self, vm: Qemu | None, action: object) -> None:
        if self._busy is not action:
            return  # it was cancelled by a kill
        if vm is not None and vm.dead and not isinstance(action, act.KillQemu):
            return self._next()
        failed, self.fail_next = self.fail_next and not isinstance(action, act.KillQemu), False
        goes_on = None
        try:
            self._count_down(action)
            if failed:
                self.call("failed", getattr(action, "tag", None), "QMP: injected error")
            else:
                goes_on = self._OPERATIONS[type(action)](self, vm, action)
        except OSError as error:
            self.call("failed", getattr(action, "tag", None), str(error))
        except PowerLoss:
            self.world.power_loss(self.name)
        finally:
            if self._dying:
                self.world.kill_daemon(self.name)
            elif not goes_on:
                self._operation_ended(action)

    def _operation_ended(self, action: object) -> None:
        if not self.dead:
            self._note_holder()
            if self._busy is action:
                self._next()

    def _count_down(self, action: object) -> None:
        if self.dies_after is not None and not isinstance(action, (act.StartQemu, act.KillQemu)):
            self.dies_after -= 1
            self._dying = self.dies_after < 0

    def _start(self, vm: None, action: act.StartQemu) -> None:
        if self.host.qemu is not None:
            self.host.qemu.dead = True
        self.host.images.new_qemu()
        qemu = Qemu(self.world.loop, random.Random(self.rng.getrandbits(64)), action.incoming)
        if self.config.disks:
            qemu.drive = Drive(self.host.image, self.host.unsynced)
            qemu.drive.exported, qemu.drive.fails = action.incoming, lambda: self.host.image_fails
            if not action.incoming:
                self._mark(self.host.images.boots, self.name in self.world.torn_accepted)
                self._forget_copies()
                qemu.ram[DISK0:DISK0 + BLOCKS] = self.host.image  # a guest that boots reads its disk
        qemu.holds = self.host.frozen
        self._own(qemu)
        self.memory.qemu = qemu
        qemu.copy, held = f"{self.rng.getrandbits(128):032x}", self.host.copies + self.host.copies_begun
        self.host.copies_begun = [*self.host.copies_begun, qemu.copy][-3:] if action.incoming else []
        self.call("qemu_ready", {"qemu_version": "7.2.22", "disk_copy": {"held": held, "next": qemu.copy}})

    def _killed(self, vm: Qemu, action: act.KillQemu) -> None:
        self.memory.qemu = None
        vm.dead = True
        if self.host.qemu is vm:
            self.host.qemu = None

    def _stop(self, vm: Qemu, action: act.StopVm | act.ColoStop) -> bool:
        """True: it goes on."""
        if vm.drive is not None and vm.drive.stuck:  # QEMU's stop waits for the writes under way
            self.world.loop.after(0.001, vm, self._done, vm, action)
            return True
        last = LastOutput(self.taken_bytes)
        vm.running = False
        self.output()
        self._ask(vm, action, last)
        return True

    def _ask(self, vm: Qemu, action: act.StopVm | act.ColoStop, last: LastOutput) -> None:
        delay_ms = self.rng.uniform(*ROUND_MS) if vm.unsent or vm.read_late_s else 0.0
        self.world.loop.after(delay_ms / 1000, vm, self.world.loop.after, 0.0, self, self._answered, vm, action, last)

    def _answered(self, vm: Qemu, action: act.StopVm | act.ColoStop, last: LastOutput) -> None:
        """A round of plover.qemu.vm's after a stop: QEMU has answered, and what it sent is read."""
        if self._busy is not action or vm is not self.vm or vm.dead:
            return
        self.output()
        if not last.over(self.taken_bytes):
            return self._ask(vm, action, last)
        self._stopped(vm, action)
        self._operation_ended(action)

    def _stopped(self, vm: Qemu, action: act.StopVm | act.ColoStop) -> None:
        vm.stopped_as = vm.digest()
        if vm.drive is not None and vm.drive.peer_failed:
            self.call("disk_failed", "peer", "Input/output error")
        if vm.drive is not None and vm.drive.lost:
            self._lost_write(vm)
        if self.vm is vm:
            self.call("vm_stopped", action.tag)

    def _cont(self, vm: Qemu, action: act.ContVm) -> None:
        self._run_vm(vm)

    def _run_vm(self, vm: Qemu) -> None:
        if vm.torn():
            self.world.ghost.fail(f"{self.name}: the VM runs with memory and devices of different moments")
        vm.running = True
        vm.wake()

    def _save(self, vm: Qemu, action: act.SaveDevice) -> None:
        self._check_not_lost(vm)
        self.call("device_saved", action.tag, vm.save())

    def _check_not_lost(self, vm: Qemu) -> None:
        if vm.drive is not None and vm.drive.lost:
            self.world.ghost.fail(f"{self.name}: the state is taken of a VM that reads an old block from its disk")

    def _capture(self, vm: Qemu, action: act.CaptureStream) -> None:
        self._check_not_lost(vm)
        self.call("stream_captured", action.tag, vm.save())

    def _load(self, vm: Qemu, action: act.FeedStream | act.ColoLoad) -> None:
        feed = isinstance(action, act.FeedStream)
        if vm.drive is not None:
            vm.drive.checkpoint()
            vm.drive.secondary = True
            if feed:  # its images are flushed, then it is noted which copy they are
                self.world.loop.after(self.rng.uniform(0.002, 0.3), self, self._note_copy, vm)
        why = vm.load(action.stream if feed else action.state)
        if why:
            self.world.ghost.fail(f"{self.name}: {why}")
        self._run_vm(vm)
        self.call("colo_ready" if feed else "colo_loaded", action.tag)

    def _reset(self, vm: Qemu, action: act.ResetVm) -> None:
        self.call("vm_reset", action.tag)

    def _promote(self, vm: Qemu, action: act.Promote) -> None:
        if not vm.running and vm.stopped_as != vm.digest():
            self.world.ghost.fail(f"{self.name}: promoted with pages of two different moments")
        if vm.drive is not None:
            self._mark(self.host.images.promoted)
            self._forget_copies()
            vm.drive.promote()
        self._run_vm(vm)
        self.call("promoted")
        self._watch_merge(vm)

    def _track(self, vm: Qemu, action: act.OpenTracker) -> None:
        self.call("tracker_open", action.tag)

    def _fetch(self, vm: Qemu, action: act.FetchDirty) -> None:
        self.call("dirty_fetched", action.tag)

    # ---- disks ----------------------------------------------------------------------------------------
    def _peer_drive(self) -> Drive | None:
        """The other host's disk, if it takes our writes now."""
        host = self.world.hosts[self.other]
        there = host.qemu is not None and not host.qemu.dead and host.qemu.drive is not None and host.qemu.drive.exported
        return host.qemu.drive if there and self._reach(host.qemu) == FINE else None

    def _reach(self, qemu: Qemu) -> str:
        cut = {(self.name, self.other), (self.other, self.name)} & set(self.world.network.cut_since)
        if cut or not self.world.hosts[self.other].on or (qemu.holds and not qemu.dead):
            return SILENT
        if qemu.dead:
            return GONE
        return FULL if self.world.hosts[self.other].disk.full else FINE

    def _copied(self, vm: Qemu, action: act.CopyDisks) -> None:
        if self._copying is not action or vm is not self.vm:
            return
        peer = self._peer_drive()
        if peer is None:
            self.call("failed", action.tag, "NBD: no answer")
        elif self._peer_marked():
            vm.drive.copy_to(peer, action.held, action.name, self.rng)
            self.call("disks_copied", action.tag)

    def _attach(self, vm: Qemu, action: act.AttachDisks) -> None:
        peer = self._peer_drive()
        if peer is None:
            return self.call("failed", action.tag, "NBD: no answer")
        qemu = self.world.hosts[self.other].qemu
        vm.drive.attach(peer)
        vm.drive.on_lost = lambda: self.dead or self.world.loop.after(0.001 * self.rng.random(), self, self._lost_write, vm)
        vm.drive.reach = lambda: self._reach(qemu)
        self.call("disks_attached", action.tag)

    def _lost_write(self, vm: Qemu) -> None:
        """As QEMU tells it, by an event."""
        if self.vm is vm:
            self.call("disk_failed", "image0", "Input/output error", True)

    def _watch_merge(self, vm: Qemu, action: act.MergeDisks | None = None) -> None:
        if vm.drive is not None:
            self.world.loop.after(self.host.images.rng.uniform(*MERGE_S), self, self._merge, vm)

    def _merge(self, vm: Qemu) -> None:
        if vm is not self.vm or vm.dead:
            return
        if vm.drive.merging and self.host.merge_fails:
            return self.call("disks_unmerged", "no room")
        if vm.drive.merging:
            vm.drive.merge()
        self._merged(vm)
        if not self.dead:
            self.call("disks_merged")

    def _disks_hashed(self, action: act.HashDisks) -> None:
        self.call("disks_hashed", action.tag, array("Q", self.host.image).tobytes())

    def _mark(self, step: Callable[..., None], *more: object) -> None:
        """Of our image; the core learns what the disk says now."""
        try:
            step(self.consensus.view, *more)
        finally:
            self.core.marks = self.host.images.marks.now

    def _peer_marked(self) -> bool:
        """The leader knocks: the other host marks its image before the first block comes, see plover.disks.copy_gate."""
        peer = self.world.members[self.other]
        try:
            if not peer.dead and not peer.holds:
                peer._mark(self.host.world.hosts[self.other].images.copy_begins)
                return True
        except OSError as error:
            peer.call("disk_failed", "disk", str(error))
        except PowerLoss:
            self.world.power_loss(self.other)
        self.call("failed", self._copying.tag, "no answer to the knock") if self._copying else None
        return False

    def _merged(self, vm: Qemu) -> None:
        """Flushed and synced as well."""
        if vm is self.vm and not vm.dead:
            self._mark_quietly(self.host.images.merged)

    def _mark_quietly(self, step: Callable[..., None]) -> None:
        try:
            self._mark(step)
        except OSError as error:
            self.world.note(self.name, f"the mark stays as it is: {error}")
        except PowerLoss:
            self.world.power_loss(self.name)

    def _note_copy(self, vm: Qemu) -> None:
        if vm is self.vm and not vm.drive.promoted and self.host.loses_writes:
            self._lose_copy(vm)
        elif vm is self.vm and not vm.drive.promoted:
            self._mark_quietly(self.host.images.copied)
            self.host.copies, self.host.copies_begun = [vm.copy], []

    def _lose_copy(self, vm: Qemu) -> None:
        """The sync fails: what was in the cache is thrown away, and the next sync will succeed."""
        vm.running = False  # what it would read now goes nowhere, if the core does what it must
        for block in self.host.unsynced:
            self.host.image[block] = TORN
        self.host.unsynced.clear()
        self._mark_quietly(self.host.images.copy.spoiled)
        self._forget_lost_copy()
        self.call("copy_lost", None, "Input/output error")

    def _forget_lost_copy(self) -> None:
        self._forget_copies()

    def _forget_copies(self) -> None:
        self.host.copies, self.host.copies_begun = [], []

    def _cut_disk(self) -> None:
        if self.vm is not None and self.vm.drive is not None:
            self.vm.drive.peer = None

    def _detached(self, vm: Qemu, action: act.DetachDisks) -> None:
        vm.drive.peer, vm.drive.peer_failed = None, False

    _OPERATIONS = {act.StartQemu: _start, act.KillQemu: _killed, act.StopVm: _stop, act.ColoStop: _stop, act.ContVm: _cont,
                   act.SaveDevice: _save, act.CaptureStream: _capture, act.FeedStream: _load, act.ColoLoad: _load,
                   act.AttachDisks: _attach, act.DetachDisks: _detached, act.MergeDisks: _watch_merge,
                   act.Promote: _promote, act.OpenTracker: _track, act.FetchDirty: _fetch, act.ResetVm: _reset}

    def _note_holder(self) -> None:
        running = self.vm is not None and isinstance(self.core.role, Leader) and self.core.role.vm == RUNNING
        self.host.holder = self.vm if running else None

    def vm_exited(self, vm: Qemu) -> None:
        """QEMU ended by itself."""
        if self.vm is vm:
            self.vm = self.host.qemu = self.memory.qemu = None
            self._note_holder()
            self._work = deque(item for item in self._work if item[0] is not vm or isinstance(item[1], act.KillQemu))
            if self._busy is not None and not isinstance(self._busy, (act.KillQemu, act.StartQemu)):
                self._next()  # its command fails with it
            self.call("qemu_exited", "QEMU ended")


_SET = re.compile(r"frozenset\(\{([^}]*)\}\)")


def shown(thing: object) -> str:
    """One line, long payloads cut, sets in order: a replay reads the same whatever PYTHONHASHSEED is."""
    text = _SET.sub(lambda found: "{" + ", ".join(sorted(found[1].split(", "))) + "}", repr(thing))
    return text if len(text) < 160 else text[:157] + "..."
