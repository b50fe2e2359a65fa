# SPDX-License-Identifier: GPL-3.0-or-later
"""The replica daemon's QEMU: its queue of operations, its memory, its idleness, its end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from ..config import panics
from ..core import shell_policy as policy
from ..core.crash import panicked_in
from ..errors import InvariantViolation, PloverError, QemuError, RdmaError
from ..host.process_note import HolderNote
from ..host.watchdog import Keeper
from ..links.hello import OFF
from ..ports import effects
from ..qemu.vm import Vm
from .disk_work import DiskWork
from .shell import Shell

log = logging.getLogger("plover")
IDLE_WAIT_S = 0.01


class VmWorker:
    """One QEMU at a time. Earlier ones may not have ended yet (``unreaped``)."""

    def __init__(self, shell: Shell, watchdog: Keeper) -> None:
        self._shell, self._config, self._watchdog = shell, shell.config, watchdog
        self.vm: Vm | None = None
        self.disks = DiskWork(shell)
        self.holder = HolderNote(shell.config.run_path)
        self._operations: policy.Operations[Vm] = policy.Operations()
        self._asked = asyncio.Event()
        self._running: asyncio.Task[None] | None = None
        self._idle_task: asyncio.Task[None] | None = None
        self._said: dict[str, Vm] = {}  # "guest_off" or "guest_panicked", and whose guest has said so
        self._ways: dict[type, Callable[[Vm, Any], Awaitable[None]]] = {
            effects.StartQemu: self._start,
            effects.KillQemu: self._end,
            effects.OpenTracker: self._open_tracker,
            effects.FetchDirty: self._fetch_dirty,
            effects.StopVm: self._stop,
            effects.ContVm: self._cont,
            effects.PressPower: lambda vm, _action: vm.press_power(),
            effects.ResetGuest: self._reset_guest,
            effects.SaveDevice: self._save,
            effects.CaptureStream: self._capture,
            effects.FeedStream: self._feed,
            effects.ColoStop: self._colo_stop,
            effects.ResetVm: self._reset,
            effects.ColoLoad: self._colo_load,
            effects.Promote: self._promote,
            effects.AttachDisks: self._attach_disks,
            effects.DetachDisks: self._detach_disks,
            effects.MergeDisks: self._merge_disks,
        }

    @property
    def unreaped(self) -> bool:
        return bool(self._operations.unreaped)

    def actions(self) -> dict[type, Callable[[Any], object]]:
        """Kind of effect -> its call: most wait in the queue, some are done at once."""
        return {
            **dict.fromkeys(self._ways, self._ask),
            effects.KillQemu: self._kill,
            effects.DetachDisks: self._cut_disks,
            effects.CopyDisks: self._copy_disks,
            effects.HashDisks: self.disks.hash,
            effects.HoldWrites: lambda _action: self.disks.path.streams.hold(),
            effects.PassWrites: lambda _action: self.disks.path.streams.go_on(),
            effects.Inject: self._inject,
            effects.Drain: lambda a: self._shell.spawn(self._drain(a)),
        }

    # ---- the queue ------------------------------------------------------------------------------------
    def _ask(self, action: object) -> None:
        self._operations.ask(self.vm, action)
        self._asked.set()

    def _kill(self, action: effects.KillQemu) -> None:
        vm, self.vm = self.vm, None
        self.disks.close()
        self.note_holder()
        if self._operations.kill(vm, action) and self._running:
            self._running.cancel()
        self._asked.set()

    def _cut_disks(self, action: effects.DetachDisks) -> None:
        self.disks.detach(self.vm)
        self._ask(action)

    def _copy_disks(self, action: effects.CopyDisks) -> None:
        if self.vm:
            self.disks.copy(self.vm, action)

    def _inject(self, action: effects.Inject) -> None:
        if self.vm:
            self.vm.inject(action.payload)

    async def work(self) -> None:
        while True:
            todo = self._operations.begin()
            if todo is None:
                self._asked.clear()
                await self._asked.wait()
                continue
            vm, action = todo
            if isinstance(action, effects.StartQemu):
                vm = self.vm = self.vm or self._new_vm()
            if vm is None:
                raise InvariantViolation(f"{type(action).__name__} without a QEMU")
            await self._carry_out(vm, action)

    async def _carry_out(self, vm: Vm, action: object) -> None:
        self._running = self._shell.loop.create_task(self.perform(vm, action))
        try:
            await asyncio.wait([self._running])
            error = None if self._running.cancelled() else self._running.exception()
        finally:
            self._running = None
            self._operations.ended()
        if error is not None and not isinstance(error, (PloverError, OSError)):
            raise error
        told = error and policy.failure(action, error, vm is self.vm)
        if told:
            log.error("%s: %s", type(action).__name__, error)
            self._shell.answer(*told)
        self.note_holder()
        self.disks.tell_marks()

    async def perform(self, vm: Vm, action: object) -> None:
        """One operation. Raises PloverError or OSError."""
        await self._ways[type(action)](vm, action)

    # ---- the operations ---------------------------------------------------------------------------------
    async def _start(self, vm: Vm, action: effects.StartQemu) -> None:
        facts = await vm.start(action.incoming, self._shell.core.consensus.view)
        if action.incoming:
            await self.disks.wait_for_copy(vm)
        await self._map_memory()
        self.disks.watch(vm)
        self._watch_guest(vm)
        self._shell.answer("qemu_ready", facts)

    async def _end(self, vm: Vm, action: effects.KillQemu) -> None:
        self._unmap_memory()
        try:
            await vm.kill()
        except QemuError as error:
            self._watchdog.starve(str(error))
            raise
        self._operations.reaped(vm)

    async def _open_tracker(self, vm: Vm, action: effects.OpenTracker) -> None:
        await self._shell.memory.track(self._config.syncvm_dirty_tracking, vm.pid, self._config.run_path / "uffd")
        self._shell.answer("tracker_open", action.tag)

    async def _fetch_dirty(self, vm: Vm, action: effects.FetchDirty) -> None:
        async with self._shell.memory.fetched(vm_runs=True):
            self._shell.answer("dirty_fetched", action.tag)

    async def _stop(self, vm: Vm, action: effects.StopVm) -> None:
        await vm.stop()
        await self.disks.stopped(vm)
        async with self._shell.memory.fetched(action.dirty):
            self._shell.answer("vm_stopped", action.tag)

    async def _cont(self, vm: Vm, action: effects.ContVm) -> None:
        await vm.cont()

    async def _reset_guest(self, vm: Vm, action: effects.ResetGuest) -> None:
        await vm.reset()
        self._said.clear()

    async def _save(self, vm: Vm, action: effects.SaveDevice) -> None:
        self._shell.answer("device_saved", action.tag, await vm.save_device())

    async def _capture(self, vm: Vm, action: effects.CaptureStream) -> None:
        stream = await vm.capture_stream()
        async with self._shell.memory.fetched():
            self._shell.answer("stream_captured", action.tag, stream)

    async def _feed(self, vm: Vm, action: effects.FeedStream) -> None:
        await vm.feed_stream(action.stream)
        self.disks.filled(vm)
        self._shell.answer("colo_ready", action.tag)

    async def _colo_stop(self, vm: Vm, action: effects.ColoStop) -> None:
        await vm.colo_stop()
        async with self._shell.memory.fetched():
            self._shell.answer("vm_stopped", action.tag)

    async def _reset(self, vm: Vm, action: effects.ResetVm) -> None:
        await vm.reset()
        self._shell.answer("vm_reset", action.tag)

    async def _colo_load(self, vm: Vm, action: effects.ColoLoad) -> None:
        self._said.clear()
        await vm.colo_load(action.state, action.runs, action.reset)
        self._shell.answer("colo_loaded", action.tag)

    async def _promote(self, vm: Vm, action: effects.Promote) -> None:
        await vm.promote(self._shell.core.consensus.view)
        self.disks.promoted(vm)
        self._shell.answer("promoted")
        try:
            await vm.announce()
        except QemuError as error:  # the daemon has its own announcements
            log.warning("the guest does not announce itself: %s", error)

    async def _attach_disks(self, vm: Vm, action: effects.AttachDisks) -> None:
        await vm.block.attach()
        self._shell.answer("disks_attached", action.tag)

    async def _detach_disks(self, vm: Vm, action: effects.DetachDisks) -> None:
        await vm.block.detach()

    async def _merge_disks(self, vm: Vm, action: effects.MergeDisks) -> None:
        await self.disks.merge.again(vm)

    # ---- the guest powers itself off, panics, boots again ---------------------------------------------------
    def _watch_guest(self, vm: Vm) -> None:
        self._shell.spawn(vm.qmp.watch(("SHUTDOWN", "GUEST_PANICKED", "RESET"), lambda name, data: self._guest_does(vm, name, data)))

    def _guest_does(self, vm: Vm, name: str, data: dict[str, Any]) -> None:
        own = data.get("guest") is True
        if name == "GUEST_PANICKED":
            self._guest_says(vm, "guest_panicked")
        elif name == "SHUTDOWN" and own and data.get("reason") == "guest-shutdown":
            self._guest_says(vm, "guest_off")
        elif name == "RESET" and own and vm is self.vm:
            self._said.pop("guest_panicked", None)
            self._shell.answer("guest_reset")

    def _guest_says(self, vm: Vm, event: str) -> None:
        if vm is self.vm:
            self._said[event] = vm
            self._shell.answer(event, self._shell.links.all_know(OFF))

    def linked(self) -> None:
        """A member has told what it knows. An adopted VM may have been off before any had."""
        for event, vm in list(self._said.items()):
            self._guest_says(vm, event)

    # ---- beside the queue ---------------------------------------------------------------------------------
    async def _drain(self, action: effects.Drain) -> None:
        if self.vm:
            await self.vm.drain(self._config.syncvm_drain_ms_max / 1000 if action.limit_s is None else action.limit_s)
        self._shell.answer("drained", action.tag)

    def follow(self) -> None:
        """The core has moved on: watch whether the VM is idle, if the core wants to know."""
        if policy.watches_idle(self._shell.core) and self._idle_task is None:
            self._idle_task = self._shell.spawn(self._watch_idle())

    async def _watch_idle(self) -> None:
        try:
            while self.vm and policy.watches_idle(self._shell.core):
                idle = await self.vm.rests(IDLE_WAIT_S)
                self._shell.at().idle(idle)
                self._shell.run()
        finally:
            self._idle_task = None

    # ---- begin and end of a QEMU -----------------------------------------------------------
    def _new_vm(self) -> Vm:
        return Vm(self._config, self._output, self._exited, lambda why: self._shell.answer("failed", None, why), self.disks.new_images())

    def _output(self, run: bytes) -> None:
        self._shell.at().output(run)
        self._shell.run()

    async def adopt(self) -> None:
        """Take over the QEMU that ran before this daemon."""
        self.vm = self._new_vm()
        self._shell.core.facts = await self.vm.adopt()
        self.disks.watch(self.vm)
        self._watch_guest(self.vm)
        self.disks.adopted(self.vm)
        await self._map_memory()
        if await self.vm.is_off():  # QEMU has told the daemon before this one
            self._guest_says(self.vm, "guest_off")
        elif self._shell.core.facts[panics.DEVICE] and panicked_in(await self.vm.save_device()):
            self._guest_says(self.vm, "guest_panicked")
        log.info("adopted the running VM, QEMU pid %d", self.vm.pid)

    async def end_left_over(self) -> None:
        """End a running QEMU that cannot be adopted."""
        await self._new_vm().kill()

    def _exited(self, why: str) -> None:
        vm, self.vm = self.vm, None
        if vm:
            self._operations.exited(vm)
        self.disks.close()
        self._unmap_memory()
        self.note_holder()
        self._shell.at().qemu_exited(why)
        self._shell.run()

    def note_holder(self) -> None:
        self.holder.write(self.vm.pid if self.vm and policy.notes_holder(self._shell.core) else 0)

    async def _map_memory(self) -> None:
        memory = self._shell.memory
        memory.map(self._config.ram_path)
        await memory.prepare(self._config.syncvm_dirty_tracking)
        if self._shell.rings:
            try:
                await self._shell.rings.lend(memory)
            except RdmaError as error:
                log.warning("guest memory is copied before it is sent: %s", error)

    def _unmap_memory(self) -> None:
        if self._shell.rings:
            self._shell.rings.take_back()
        self._shell.memory.unmap()
