# SPDX-License-Identifier: GPL-3.0-or-later
"""The replica daemon: wiring and dispatch. It carries out the Director's effects, and reports events to it.

A shell's own decisions are in core/shell_policy.py. Its parts: vm_worker.py (QEMU), disk_work.py, tap_worker.py, operator.py.
"""

from __future__ import annotations

import asyncio
import logging
from array import array
from collections.abc import Callable
from typing import Any

from ..config.settings import Config
from ..config.timing import Timing
from ..consensus.effects import Persist, Send
from ..core import shell_policy as policy
from ..core.director import Director
from ..core.status import role_of
from ..core.told_events import Standing
from ..daemon.control_server import ControlServer
from ..daemon.member import MemberDaemon
from ..disks.images import used_bytes
from ..errors import ConfigError, InvariantViolation
from ..host import apparmor, fence_agent, kernel_tracking, qemu_user
from ..host.console_log import ConsoleLog
from ..host.watchdog import Keeper, Watchdog
from ..links.peers import PeerLinks
from ..native import zstd
from ..native.guest_memory import GuestMemory
from ..ports import effects
from ..protocol import wire
from ..protocol.pages import PAGE_BYTES
from ..qemu.launch_file import CONSOLE
from ..qemu.process import make_folders
from ..qemu.qmp import check_library
from ..qemu.vm import Vm, running_qemu
from . import audit_progress
from .audit_progress import Hashing
from .observer import Observer
from .operator import Operator
from .tap_worker import TapWorker
from .vm_worker import VmWorker

log = logging.getLogger("plover")
TICK_S = 0.005
CONSOLE_LOOK_S = 0.25
INLINE_PAGES_MAX = 4096  # more pages are hashed in a thread, so that heartbeats go on
PART_PAGES = 1 << 16  # hashed at a time; between the parts the progress is known


class Replica(MemberDaemon):
    def __init__(self, config: Config) -> None:
        check_library()
        self.tracking_problem = ""  # why a slower way of dirty tracking was chosen
        given = config
        if config.syncvm_dirty_tracking == kernel_tracking.AUTO:
            way, self.tracking_problem = kernel_tracking.choose(config.ram_path.parent)
            config = config.but(syncvm_dirty_tracking=way)
            log.info("dirty tracking: %s", f"{way}; {self.tracking_problem}" if self.tracking_problem else way)
        super().__init__(config, given)
        self.core: Director
        self.observer = Observer()
        self.peer = next(m for m in config.replicas if m != config.member)
        self.memory = GuestMemory(config.guest_pages, config.syncvm_hash_threads)
        self.links = PeerLinks(config, self._on_message, self._on_link_up, self._on_link_down, self._on_writable)
        self.watchdog = Keeper(config.fence_watchdog, Watchdog(config.fence_watchdog_device, config.fence_watchdog_timeout_s))
        self.vms = VmWorker(self, self.watchdog)
        self.taps = TapWorker(self, self.watchdog)
        self._operator = Operator(self)
        self._executing = False
        self._hashing: Hashing | None = None
        self._actions = self._ways()

    def _ways(self) -> dict[type, Callable[[Any], object]]:
        """Kind of effect -> the call that carries it out, or begins it."""
        return {
            Persist: lambda a: self.store.save(a.state),
            Send: lambda a: self.say(a.to, a.message),
            effects.SendData: lambda a: self.links.send(self.peer, wire.DATA, a.message),
            effects.CloseData: lambda a: self.links.close(self.peer, wire.DATA),
            effects.Yield: lambda a: self.loop.call_soon(self._on_writable),
            effects.Happened: lambda a: self.note(*a),
            effects.Report: lambda a: log.info("%s", a.text),
            effects.Hash: lambda a: self._hash(a, self.memory.hash, "hashed"),
            effects.HashBlocks: lambda a: self._hash(a, self.memory.hash_blocks, "blocks_hashed"),
            effects.Pack: lambda a: self.spawn(self._pack(a)),
            effects.Fence: lambda a: self.spawn(self._fence(a)),
            **self.vms.actions(),
            **self.taps.actions(),
        }

    @property
    def vm(self) -> Vm | None:
        return self.vms.vm

    async def setup(self) -> None:
        make_folders(self.config)
        self._check_host()
        adopted = self.vms.holder.alive(running_qemu(self.config))
        marks, comparison = self.vms.disks.marks.read(), self.memory.comparison() if self.config.output_comparison == "native" else None
        self.core = Director(self.config, self.remembered(), self.memory, self.loop.time(), adopted, marks, comparison)
        self.go_one_sided(self.core.consensus)
        if adopted:
            await self.vms.adopt()
            self.watchdog.arm()  # it may still be armed by the daemon before this one
        elif running_qemu(self.config):
            await self.vms.end_left_over()
        if not adopted:
            self.watchdog.check()
        await self.taps.cards.load_filters()  # before the TAP can be up
        await self.links.start()
        self.control = ControlServer(self.config.run_path / "ctl.sock", self)
        await self.control.start()
        await self.serve_status(self._operator.status)
        self.spawn(self.vms.work())
        self.spawn(self.taps.work())
        self.spawn(self.taps.watch_filters())
        self.spawn(self._ticker())
        self.spawn(self._bound_console())

    def _check_host(self) -> None:
        """What would be missing only in a failover, or when QEMU starts. Raises ConfigError, QemuError."""
        self.links.secrets()
        fence_agent.read_input(self.config.fence_input_path, required=bool(self.config.fence_input_file))
        qemu_user.find(self.config)

    # ---- the core's loop ----------------------------------------------------------------------------------
    def at(self) -> Director:
        return self.core.at(self.loop.time())

    def answer(self, event: str, *arguments: object) -> None:
        self.observer.event(event, arguments)
        self.at().answer(event, *arguments)
        self.run()

    def run(self) -> None:
        """Carry out the core's effects, in order."""
        if self._executing:
            return  # called by an effect's answer: the loop below takes the new effects too
        self._executing = True
        try:
            while actions := self.core.take():
                for action in actions:
                    self._carry_out(action)
        finally:
            self._executing = False
        self.taps.follow()
        self.vms.follow()

    def _carry_out(self, action: object) -> None:
        way = self._actions.get(type(action))
        if way is None:
            raise InvariantViolation(f"there is no way to do {type(action).__name__}")
        self.observer.action(action)
        way(action)

    async def _ticker(self) -> None:
        while True:
            self.look()
            self.at().tick()
            self.run()
            self.tick_rings()
            self.alive()
            if policy.disarms_watchdog(self.core, self.vms.unreaped):
                self.watchdog.qemu_gone()
            self.watchdog.progress(self.loop.time())  # fed by each turn of this loop
            await asyncio.sleep(TICK_S)

    async def _bound_console(self) -> None:
        folders = (self.config.log_path, self.config.run_path)  # the latter of a QEMU of an earlier version
        consoles = [ConsoleLog(folder / CONSOLE, self.config.guest_console_kib << 10) for folder in folders]
        while True:
            for console in consoles:
                await asyncio.to_thread(console.bound)
            await asyncio.sleep(CONSOLE_LOOK_S)

    # ---- the other members --------------------------------------------------------------------------------
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
            if member == self.peer:
                self.vms.disks.path.linked()
            self.at().connected(member, timing)
            self.run()
            self.vms.linked()

    def _on_link_down(self, member: str, channel: int) -> None:
        if channel == wire.DATA:
            self.at().data_lost()
            self.run()

    def _on_writable(self) -> None:
        if self.links.writable(self.peer):
            self.at().data_writable()
            self.run()

    # ---- actions that take time ---------------------------------------------------------------------------
    def _hash(self, action: effects.Hash | effects.HashBlocks, work: Callable[[array[int]], array[int]], event: str) -> None:
        async def in_thread() -> None:
            try:
                hashes = await self._in_parts(action, work)
            except InvariantViolation:
                return  # QEMU ended in the meantime; the core learns it from the exit
            self.answer(event, action.tag, hashes)

        if len(action.index) > INLINE_PAGES_MAX:
            self.spawn(in_thread())
        else:
            self.loop.call_soon(self.answer, event, action.tag, work(action.index))

    async def _in_parts(self, action: effects.Hash | effects.HashBlocks, work: Callable[[array[int]], array[int]]) -> array[int]:
        """``work`` on all pages in threads, part by part."""
        index = action.index
        self._hashing = counted = Hashing(action.tag, len(index) * PAGE_BYTES, self.loop.time())
        out = await asyncio.to_thread(work, index[:PART_PAGES])
        for start in range(PART_PAGES, len(index), PART_PAGES):
            counted.count(PART_PAGES * PAGE_BYTES)
            out.extend(await asyncio.to_thread(work, index[start : start + PART_PAGES]))
        counted.done = counted.total
        return out

    async def _pack(self, action: effects.Pack) -> None:
        payloads = await asyncio.to_thread(lambda: list(map(zstd.compress, action.payloads)))  # zstd releases the GIL
        self.answer("packed", action.tag, payloads)

    async def _fence(self, action: effects.Fence) -> None:
        address = self.config.members[action.member]["address"]
        argv = fence_agent.words(self.config.fence_command, action.member, address)
        log.info("fencing %s by %s", action.member, argv[0])  # other words may be secrets
        try:
            text = fence_agent.read_input(self.config.fence_input_path, required=bool(self.config.fence_input_file))
            given = fence_agent.words([text], action.member, address)[0]
            problem = await fence_agent.fence(argv, self.config.fence_timeout_ms / 1000, given)
        except ConfigError as error:
            problem = str(error)
        self.answer("fenced", action.tag, problem)

    # ---- the operator -------------------------------------------------------------------------------------
    async def operator(self, request: dict[str, Any]) -> dict[str, Any]:
        return await self._operator.answer(request)

    def standing(self) -> Standing:
        return Standing(role_of(self.core), self.core.consensus.view, self.core.consensus.leader)

    def shell_status(self) -> dict[str, Any]:
        dropped = {
            "output_bytes": self.core.role.guard.dropped_bytes,
            "unsent_bytes": self.core.unsent_bytes,
            "output_frames": self.taps.cards.dropped,
            "input_frames": self.taps.cards.stale,
            "input_bytes": self.vm.network.dropped_bytes if self.vm else 0,
        }
        more = {"dropped": dropped, **self.taps.cards.describe(), **self.transport(), **self.telling.describe()}
        if self.config.disks:
            more["disk_streams"] = self.vms.disks.path.streams.describe()
            more["overlays"] = {"bytes": used_bytes(self.config), "bytes_max": self.config.disk_overlay_mib << 20}
        syncvm = self.core.leading.syncvm if self.core.leading else None
        more["audit"] = audit_progress.describe(syncvm, self._hashing, self.vms.disks.hashing, self.loop.time())
        confined = apparmor.of_process(self.vm.pid) if self.vm and self.vm.pid else ""
        host = {"watchdog": self.watchdog.describe(), "apparmor": confined, "dirty_tracking_problem": self.tracking_problem}
        return {"tap_error": self.taps.error, **host, **more}

    def sentence(self) -> str:
        status = self.core.status()
        return f"{status['service']}: {status['sentence']}"

    async def teardown(self) -> None:
        """The VM runs on in its own unit; without us nothing passes (invariant 6)."""
        self.stop_rings()
        await self.links.stop()
        await self.taps.close()
        if policy.leaves_watchdog_armed(self.vm, self.vms.unreaped):
            self.watchdog.abandon()
        else:
            self.watchdog.qemu_gone()
