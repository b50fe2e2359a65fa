# SPDX-License-Identifier: GPL-3.0-or-later
"""The replica daemon: carries out what the Director asks, and tells it what happened. All I/O, no decisions."""
from __future__ import annotations

import asyncio
import logging
from array import array
from collections.abc import Callable

from ..config.settings import Config
from ..config.timing import Timing
from ..consensus.effects import Persist, Send
from ..core import cold_start, force
from ..core.director import Director
from ..core.leader import Leader
from ..core.status import DOWN, status_of_syncvm
from ..daemon.control_server import ControlServer
from ..daemon.member import MemberDaemon
from ..dataplane.tap import Tap
from ..errors import InvariantViolation, LostWritesError, NetworkError, PloverError, QemuError, RdmaError
from ..host.fence_agent import fence, words
from ..host.process_note import HolderNote
from ..host.watchdog import Keeper, Watchdog
from ..links.peers import PeerLinks
from ..native import zstd
from ..native.guest_memory import GuestMemory
from ..ports import effects as act
from ..protocol import wire
from ..protocol.frames import announcements, wrap
from ..qemu.qmp import check_library
from ..qemu.vm import Vm, running_qemu
from .disk_work import DiskWork

log = logging.getLogger("plover")
TICK_S = 0.005
IDLE_WAIT_S = 0.01
INLINE_PAGES_MAX = 4096  # more pages are hashed in a thread, so that heartbeats go on
TAP_RETRY_S = 1.0
TAP_SLOW_MS = 200
SPEAK_LOOK_S = 0.002
ANNOUNCE_AT_S = (0.0, 0.05, 0.2, 0.5, 1.0)


class Replica(MemberDaemon):
    def __init__(self, config: Config) -> None:
        check_library()
        super().__init__(config)
        self.holder = HolderNote(config.run_path)
        self.memory = GuestMemory(config.guest_pages, config.syncvm_hash_threads)
        self.tap = Tap(config.network_tap, config.network_bridge, config.network_ifup, config.network_ifdown,
                       self.loop.time)
        self.peer = next(m for m in config.replicas if m != config.member)
        self.links = PeerLinks(config, self._on_message, self._on_link_up, self._on_link_down, self._on_writable)
        device = Watchdog(config.fence_watchdog_device, config.fence_watchdog_timeout_s)
        self.watchdog = Keeper(config.fence_watchdog, device)
        self._unreaped: set[Vm] = set()  # QEMUs that are being ended
        self._reaping = False
        self.vm: Vm | None = None
        self.core: Director
        self.disk_work = DiskWork(self)
        self._vm_work: asyncio.Queue = asyncio.Queue()
        self._tap_work: asyncio.Queue = asyncio.Queue()
        self._idle_task: asyncio.Task | None = None
        self._tap_reading = self._tap_is_up = False
        self._announcing: asyncio.Future = self.loop.create_future()
        self.tap_error = ""
        self._vm_op: asyncio.Task | None = None
        self._executing = False
        self._actions = {
            Persist: lambda a: self.store.save(a.state),
            Send: lambda a: self.say(a.to, a.message),
            act.SendData: lambda a: self.links.send(self.peer, wire.DATA, a.message),
            act.Inject: lambda a: self.vm and self.vm.inject(a.payload),
            act.Emit: lambda a: [self.tap.write(run, self.core.speak_until) for run in a.chunks],
            act.Happened: lambda a: self.note(*a),
            act.Report: lambda a: log.info("%s", a.text),
            act.CloseData: lambda a: self.links.close(self.peer, wire.DATA),
            act.Yield: lambda a: self.loop.call_soon(self._on_writable),
            act.Hash: lambda a: self._hash(a, self.memory.hash, "hashed"),
            act.HashBlocks: lambda a: self._hash(a, self.memory.hash_blocks, "blocks_hashed"),
            act.Pack: lambda a: self.spawn(self._pack(a)),
            act.Drain: lambda a: self.spawn(self._drain(a)),
            act.TapUp: self._tap_up,
            act.TapEarly: self._tap_up,
            act.Fence: lambda a: self.spawn(self._fence(a)),
            act.TapDown: self._tap_work.put_nowait,
            act.KillQemu: self._kill_qemu,
            act.CopyDisks: lambda a: self.vm and self.disk_work.copy(a),
            act.DetachDisks: self._detach_disks,
            act.HashDisks: self.disk_work.hash,
        }

    async def setup(self) -> None:
        adopted = self.holder.alive(running_qemu(self.config))
        marks = self.disk_work.marks.read()
        self.core = Director(self.config, self.remembered(), self.memory, self.loop.time(), adopted, marks)
        self.go_one_sided(self.core.consensus)
        if adopted:
            self.vm = self._new_vm()
            self.core.facts = await self.vm.adopt()
            self.disk_work.watch(self.vm)
            self.disk_work.adopted(self.vm)
            await self._map_memory()
            log.info("adopted the running VM, QEMU pid %d", self.vm.pid)
            self.watchdog.arm()  # it still is, if the daemon before us armed it
        elif running_qemu(self.config):
            await self._new_vm().kill()
        if not adopted:
            self.watchdog.check()
        await self.links.start()
        self.control = ControlServer(self.config.run_path / "ctl.sock", self)
        await self.control.start()
        self.spawn(self._vm_worker())
        # The scripts' programs are read from the disk now, not while clients wait for a failover.
        self._tap_work.put_nowait(act.TapDown())
        self.spawn(self._tap_worker())
        self.spawn(self._ticker())

    # ---- the core's loop ----------------------------------------------------------------------------------
    def at(self) -> Director:
        return self.core.at(self.loop.time())

    def run(self) -> None:
        """Carry out what the core wants, in order."""
        if self._executing:
            return  # an action led to an event; the loop below sees its actions
        self._executing = True
        try:
            while actions := self.core.take():
                for action in actions:
                    handler = self._actions.get(type(action))
                    if handler:
                        handler(action)
                    else:
                        self._vm_work.put_nowait((self.vm, action))
        finally:
            self._executing = False
        self._follow_role()

    def _follow_role(self) -> None:
        leading = self.core.leading
        reads = bool(leading and leading.tap_up and leading.accepts_input) or self.core.late.active(self.core)
        if reads != self._tap_reading:
            self._tap_reading = reads
            if reads:
                self.loop.add_reader(self.tap.fd, self._on_tap)
            else:
                self.loop.remove_reader(self.tap.fd)
        waits = bool(leading and leading.guard.unmarked_bytes and not leading.syncvm and leading.protected)
        if waits and self._idle_task is None:
            self._idle_task = self.spawn(self._watch_idle())

    async def _watch_idle(self) -> None:
        """Look at the leader's VM as long as output waits for the next syncvm."""
        try:
            while self.vm and self.core.leading and not self.core.leading.syncvm and self.core.leading.guard.unmarked_bytes:
                idle = await self.vm.rests(IDLE_WAIT_S)
                self.at().idle(idle)
                self.run()
        finally:
            self._idle_task = None

    async def _ticker(self) -> None:
        while True:
            self.look()
            self.at().tick()
            self.run()
            self.tick_rings()
            self.alive()
            self._keep_watchdog()
            await asyncio.sleep(TICK_S)

    def _on_message(self, member: str, channel: int, message: wire.Message) -> None:
        core = self.at()
        if channel == wire.CONTROL:
            self.hear(member, message)
        else:
            core.data(message)
        self.run()

    def receive(self, member: str, message: wire.Message) -> None:
        self.at().control(member, message)

    def settle(self) -> None:
        self.at().settle()

    def _on_link_up(self, member: str, channel: int, timing: Timing | None) -> None:
        if channel == wire.CONTROL:
            self.linked(member)
            self.at().connected(member, timing)
            self.run()

    def _on_link_down(self, member: str, channel: int) -> None:
        if channel == wire.DATA:
            self.at().data_lost()
            self.run()

    def _on_writable(self) -> None:
        if self.links.writable(self.peer):
            self.at().data_writable()
            self.run()

    def _on_tap(self) -> None:
        batch = self.tap.read_batch()
        if batch:
            self.at().input(batch)
            self.run()

    def _on_output(self, run: bytes) -> None:
        self.at().output(run)
        self.run()

    def _new_vm(self) -> Vm:
        return Vm(self.config, self._on_output, self._on_vm_exit, lambda why: self.answer("failed", None, why),
                  self.disk_work.new_copy())

    def _on_vm_exit(self, why: str) -> None:
        self.vm = None
        self.disk_work.close()
        self._unmap_memory()
        self._note_holder()
        self.at().qemu_exited(why)
        self.run()

    # ---- fencing ------------------------------------------------------------------------------------------
    def _tap_up(self, action: act.TapUp | act.TapEarly) -> None:
        self.watchdog.arm()  # from here on the VM may speak
        self._tap_work.put_nowait(action)

    def _keep_watchdog(self) -> None:
        """Fed as this loop goes round; disarmed once no QEMU of ours is left that could have spoken."""
        if not isinstance(self.core.role, Leader) and not self._unreaped:
            self.watchdog.qemu_gone()
        self.watchdog.progress(self.loop.time())

    async def _fence(self, action: act.Fence) -> None:
        argv = words(self.config.fence_command, action.member, self.config.members[action.member]["address"])
        log.info("fencing %s: %s", action.member, " ".join(argv))
        self.answer("fenced", action.tag, await fence(argv, self.config.fence_timeout_ms / 1000))

    # ---- actions that take time ---------------------------------------------------------------------------
    def _hash(self, action: act.Hash | act.HashBlocks, work: Callable[[array], array], event: str) -> None:
        async def in_thread() -> None:
            try:
                hashes = await asyncio.to_thread(work, action.index)
            except InvariantViolation:
                return  # QEMU ended in the meantime; who asked for the hashes is told so
            self.answer(event, action.tag, hashes)

        if len(action.index) > INLINE_PAGES_MAX:
            self.spawn(in_thread())
        else:
            self.loop.call_soon(self.answer, event, action.tag, work(action.index))

    def answer(self, event: str, *arguments: object) -> None:
        self.at().answer(event, *arguments)
        self.run()

    async def _pack(self, action: act.Pack) -> None:
        payloads = await asyncio.to_thread(lambda: list(map(zstd.compress, action.payloads)))  # zstd lets this thread run on
        self.answer("packed", action.tag, payloads)

    async def _drain(self, action: act.Drain) -> None:
        if self.vm:
            await self.vm.drain(self.config.syncvm_drain_ms_max / 1000 if action.limit_s is None else action.limit_s)
        self.answer("drained", action.tag)

    def _detach_disks(self, action: act.DetachDisks) -> None:
        self.disk_work.detach(self.vm)
        self._vm_work.put_nowait((self.vm, action))

    def _kill_qemu(self, action: act.KillQemu) -> None:
        vm, self.vm = self.vm, None
        self.disk_work.close()
        self._note_holder()
        if self._vm_op and not self._reaping:
            self._vm_op.cancel()
        waiting = [self._vm_work.get_nowait() for _item in range(self._vm_work.qsize())]
        for item in waiting:
            if isinstance(item[1], act.KillQemu):  # of a QEMU before this one: it must end all the same
                self._vm_work.put_nowait(item)
        if vm:
            self._unreaped.add(vm)
            self._vm_work.put_nowait((vm, action))

    async def _vm_worker(self) -> None:
        """QEMU's operations, one after the other, in the order they were asked for."""
        while True:
            vm, action = await self._vm_work.get()
            if isinstance(action, act.StartQemu):
                vm = self.vm = self.vm or self._new_vm()
            if vm is None:
                continue
            self._vm_op = self.loop.create_task(self._vm_do(vm, action))
            try:
                await asyncio.wait([self._vm_op])
                error = None if self._vm_op.cancelled() else self._vm_op.exception()
            finally:
                self._vm_op = None
            if error is not None and not isinstance(error, (PloverError, OSError)):
                raise error
            if error is not None and (vm is self.vm or isinstance(action, act.StartQemu)):
                log.error("%s: %s", type(action).__name__, error)
                event = "copy_lost" if isinstance(error, LostWritesError) else "failed"
                self.answer(event, getattr(action, "tag", None), str(error))
            self._note_holder()
            self.disk_work.tell_marks()

    async def _vm_do(self, vm: Vm, action: object) -> None:
        if isinstance(action, act.StartQemu):
            facts = await vm.start(action.incoming, self.core.consensus.view)
            if action.incoming:
                await self.disk_work.wait_for_copy(vm)
            await self._map_memory()
            self.disk_work.watch(vm)
            self.answer("qemu_ready", facts)
        elif isinstance(action, act.KillQemu):
            self._unmap_memory()
            self._reaping = True
            try:
                await vm.kill()
                self._unreaped.discard(vm)
            except QemuError as error:
                self.watchdog.starve(str(error))
                raise
            finally:
                self._reaping = False
        elif isinstance(action, act.OpenTracker):
            await self.memory.track(self.config.syncvm_dirty_tracking, vm.pid, self.config.run_path / "uffd")
            self.answer("tracker_open", action.tag)
        elif isinstance(action, act.FetchDirty):
            async with self.memory.fetched(vm_runs=True):
                self.answer("dirty_fetched", action.tag)
        elif isinstance(action, act.StopVm):
            await vm.stop()
            await self.disk_work.stopped(vm)
            async with self.memory.fetched(action.dirty):
                self.answer("vm_stopped", action.tag)
        elif isinstance(action, act.ContVm):
            await vm.cont()
        elif isinstance(action, act.SaveDevice):
            self.answer("device_saved", action.tag, await vm.save_device())
        elif isinstance(action, act.CaptureStream):
            stream = await vm.capture_stream()
            async with self.memory.fetched():
                self.answer("stream_captured", action.tag, stream)
        elif isinstance(action, act.FeedStream):
            await vm.feed_stream(action.stream)
            self.disk_work.filled(vm)
            self.answer("colo_ready", action.tag)
        elif isinstance(action, act.ColoStop):
            await vm.colo_stop()
            async with self.memory.fetched():
                self.answer("vm_stopped", action.tag)
        elif isinstance(action, act.ResetVm):
            await vm.reset()
            self.answer("vm_reset", action.tag)
        elif isinstance(action, act.ColoLoad):
            await vm.colo_load(action.state, action.runs, action.reset)
            self.answer("colo_loaded", action.tag)
        elif isinstance(action, act.AttachDisks):
            await vm.block.attach()
            self.answer("disks_attached", action.tag)
        elif isinstance(action, act.DetachDisks):
            await vm.block.detach()
        elif isinstance(action, act.MergeDisks):
            await self.disk_work.merge.again(vm)
        elif isinstance(action, act.Promote):
            await vm.promote(self.core.consensus.view)
            self.disk_work.promoted(vm)
            self.answer("promoted")
        else:
            raise QemuError(f"no way to do {type(action).__name__}")

    async def _map_memory(self) -> None:
        self.memory.map(self.config.ram_path)
        await self.memory.prepare(self.config.syncvm_dirty_tracking)
        if self.rings:
            try:
                await self.rings.lend(self.memory)
            except RdmaError as error:
                log.warning("guest memory is copied before it is sent: %s", error)

    def _unmap_memory(self) -> None:
        if self.rings:
            self.rings.take_back()
        self.memory.unmap()

    async def _tap_worker(self) -> None:
        while True:
            action = await self._tap_work.get()
            self.tap_error, began = "", self.loop.time()
            try:
                if isinstance(action, act.TapDown):
                    self._tap_is_up = False
                    await self.tap.down()
                    continue
                if not self._tap_is_up:
                    await self.tap.up()
                    self._tap_is_up = True
                if isinstance(action, act.TapUp):
                    self.answer("tap_ready")
                self._announcing.cancel()
                self._announcing = self.spawn(self._announce())
            except NetworkError as error:
                log.error("%s", error)
                if isinstance(action, act.TapUp):
                    self.tap_error = str(error)
                    self.loop.call_later(TAP_RETRY_S, self._retry_tap, action)
            finally:
                took_ms = 1000 * (self.loop.time() - began)
                if took_ms > TAP_SLOW_MS:
                    log.warning("the TAP's script took %.0f ms (%s)", took_ms, type(action).__name__)

    def _retry_tap(self, action: act.TapUp) -> None:
        leading = self.core.leading
        if leading and leading.tap_up and self.tap_error and self._tap_work.empty():
            self._tap_work.put_nowait(action)

    async def _announce(self) -> None:
        waited = 0.0
        for at in ANNOUNCE_AT_S:
            await asyncio.sleep(at - waited)
            waited = at
            while (leading := self.at().leading) and (leading.tap_up or leading.tap_early) and not leading.speaks:
                await asyncio.sleep(SPEAK_LOOK_S)  # just elected, or hung in between: first a quorum must have answered
            if not (leading and leading.speaks):
                return
            for frame in announcements(self.config.guest_mac, self.config.guest_addresses):
                self.tap.write(wrap(frame), self.core.speak_until)

    def _note_holder(self) -> None:
        leads = isinstance(self.core.role, Leader) and self.core.role.vm == "running"
        self.holder.write(self.vm.pid if self.vm and leads else 0)

    # ---- the operator -----------------------------------------------------------------------------------
    async def operator(self, request: dict) -> dict:
        command = request.get("cmd")
        if command == "status":
            status = self.at().status()
            status["fencing"]["watchdog"] = self.watchdog.describe()
            status["dropped"] = {"output_bytes": self.core.role.guard.dropped_bytes, "output_frames": self.tap.dropped,
                                 "input_bytes": self.vm.network.dropped_bytes if self.vm else 0}
            status.update(self.transport())
            if self.tap_error:
                status.update(service=DOWN, sentence=f"leading, but clients cannot reach the VM: {self.tap_error}")
            return status
        if command == "settings":
            return self.settings()
        if command == "audit-disks":
            raw = self.config.disks and all(disk.format == "raw" for disk in self.config.disk_list)
            return await self._audit_disks() if raw else {"error": "disks: there are none, or not all are raw; only raw "
                                                          "images are compared"}
        if command == "syncvms":
            return {"syncvms": [{**status_of_syncvm(figures), "at_s": at} for at, figures in self.core.recent]}
        if command in ("switchover", "audit"):
            return await self._wait_for(command)
        if command in ("failover-price", "failover-force"):
            return self._force(command)
        if command == "cold-start-price":
            error = cold_start.refusal(self.at(), forced=True)
            return {"error": error} if error else {"price": cold_start.price(self.core)}
        if command in ("cold-start", "cold-start-force"):
            error = self.at().cold_start(command == "cold-start-force")
            self.run()
            return {"error": error} if error else {"started": True}
        return {"error": f"unknown command {command!r}"}

    def _force(self, command: str) -> dict:
        core = self.at()
        error = force.refusal(core) if command == "failover-price" else force.force(core)
        self.run()
        if error:
            return {"error": error}
        return {"price": force.price(core)} if command == "failover-price" else {"view": core.consensus.view}

    async def _audit_disks(self) -> dict:
        return await self._wait_for("audit", True, seconds=self.config.join_timeout_ms / 1000 + 5)

    async def _wait_for(self, command: str, *arguments: object, seconds: float = 30.0) -> dict:
        future = self.loop.create_future()

        def answer(result: object) -> None:
            if not future.done():
                future.set_result(result)

        getattr(self.at(), command)(answer, *arguments)
        self.run()
        result = await asyncio.wait_for(future, seconds)
        if isinstance(result, str):
            return {"error": result}
        if command == "switchover":
            return {"switched": True, "view": self.core.consensus.view}
        return {"pages": self.config.guest_pages, "mismatching": result.mismatching, "untracked": result.untracked,
                "dirty_pages": result.dirty_pages, "divergent_pages": result.divergent_pages, "number": result.number,
                "pause_ms": result.pause_ms,
                **({"disk_blocks": result.disk_blocks, "disk_blocks_mismatching": result.disk_blocks_mismatching}
                   if result.disk_blocks else {})}

    def sentence(self) -> str:
        status = self.core.status()
        return f"{status['service']}: {status['sentence']}"

    async def teardown(self) -> None:
        """The VM runs on in its own unit; without us nothing passes (invariant 6)."""
        self.stop_rings()
        await self.links.stop()
        self.tap.close()
        if self.vm or self._unreaped:
            self.watchdog.abandon()  # armed: the next daemon, or the end of QEMU's unit, disarms it
        else:
            self.watchdog.qemu_gone()
