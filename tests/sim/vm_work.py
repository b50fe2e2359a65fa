# SPDX-License-Identifier: GPL-3.0-or-later
"""QEMU's operations in a simulated replica, as plover.replica.vm_worker: one after the other; each takes some time."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from plover.core import shell_policy as policy
from plover.dataplane.last_output import LastOutput
from plover.errors import QemuError
from plover.ports import effects

from .blocks import BLOCKS, Drive
from .disk import PowerLoss
from .disk_work import DiskWork
from .guest import DISK0, Qemu
from .speech import Speech

if TYPE_CHECKING:
    from .replica import ReplicaMember

OPERATION_MS = {
    effects.StopVm: (0.3, 2),
    effects.ContVm: (0.1, 0.5),
    effects.ResetGuest: (0.3, 2),
    effects.SaveDevice: (0.5, 3),
    effects.CaptureStream: (5, 20),
    effects.FeedStream: (5, 20),
    effects.ColoStop: (0.3, 3),
    effects.ColoLoad: (1, 8),
    effects.Promote: (1, 12),
    effects.OpenTracker: (0.1, 0.5),
    effects.FetchDirty: (0.0, 0.02),
    effects.AttachDisks: (1, 10),
    effects.ResetVm: (0.3, 2),
    effects.DetachDisks: (0.2, 1),
    effects.MergeDisks: (1, 10),
    effects.StartQemu: (20, 50),
    effects.KillQemu: (1, 10),
}
SCAN_MS = (1, 40)  # so much longer with tracking by scan, if dirty pages are asked for in the answer:
ROUND_MS = (0.1, 0.3)  # a question to QEMU and its answer; of a VM with little to say they are in the time of its stop
SCANNED = (effects.OpenTracker, effects.FetchDirty, effects.StopVm, effects.ColoStop, effects.CaptureStream)


class VmWork:
    """``fail_next``, ``dies_after``: faults. QEMU refuses its next operation; the daemon dies so many operations from now, before
    it learns of the last one."""

    def __init__(self, member: ReplicaMember, disks: DiskWork) -> None:
        self._member, self._disks = member, disks
        self._host, self._world = member.host, member.world
        self.operations: policy.Operations[Qemu] = policy.Operations()
        self.vm: Qemu | None = None
        self.fail_next = False
        self.dies_after: int | None = None
        self.dying = False
        self._ways = {
            effects.StartQemu: self._start,
            effects.KillQemu: self._killed,
            effects.StopVm: self._stop,
            effects.ColoStop: self._stop,
            effects.ContVm: self._cont,
            effects.ResetGuest: self._reset_guest,
            effects.SaveDevice: self._save,
            effects.CaptureStream: self._capture,
            effects.FeedStream: self._load,
            effects.ColoLoad: self._load,
            effects.AttachDisks: disks.attach,
            effects.DetachDisks: disks.detached,
            effects.MergeDisks: disks.watch_merge,
            effects.Promote: self._promote,
            effects.OpenTracker: self._track,
            effects.FetchDirty: self._fetch,
            effects.ResetVm: self._reset,
        }

    @property
    def busy(self) -> bool:
        return self.operations.running is not None or len(self.operations) > 0

    def own(self, qemu: Qemu) -> None:
        self.vm = self._host.qemu = qemu
        qemu.on_output = lambda: self._member.dead or self._world.loop.after(0.0, self._member, self._member.output)

    def note_holder(self) -> None:
        self._host.holder = self.vm if policy.notes_holder(self._member.core) else None

    def exited(self, vm: Qemu) -> None:
        """QEMU ended by itself, and its command with it."""
        self.vm = self._host.qemu = self._member.memory.qemu = None
        self.note_holder()
        self.operations.exited(vm)
        if not isinstance(self.operations.running, (effects.KillQemu, effects.StartQemu)):
            self._over()

    # ---- in order -----------------------------------------------------------------------------------
    def ask(self, action: object) -> None:
        self.operations.ask(self.vm, action)
        self._go_on()

    def kill(self, action: effects.KillQemu) -> None:
        vm, self.vm = self.vm, None
        self.note_holder()
        if self.operations.kill(vm, action):
            self.operations.ended()
        self._go_on()

    def _over(self) -> None:
        self.operations.ended()
        self._go_on()

    def _go_on(self) -> None:
        todo = self.operations.begin()
        if todo is None:
            return
        vm, action = todo
        if isinstance(action, effects.StartQemu):
            vm = None
        delay_ms = self._member.rng.uniform(*OPERATION_MS[type(action)])
        if self._world.scans and isinstance(action, SCANNED) and getattr(action, "dirty", True):
            delay_ms += self._member.rng.uniform(*SCAN_MS)
        # A hung QEMU answers late, a killed one never.
        owner = vm if vm is not None and not isinstance(action, effects.KillQemu) else self._member
        self._world.loop.after(delay_ms / 1000, owner, self._done, vm, action)

    def _done(self, vm: Qemu | None, action: object) -> None:
        self._world.loop.after(0.0, self._member, self._finish, vm, action)

    def _finish(self, vm: Qemu | None, action: object) -> None:
        if self.operations.running is not action:
            return  # it was cancelled by a kill
        if vm is not None and vm.dead and not isinstance(action, effects.KillQemu):
            return self._over()
        goes_on = None
        try:
            self._count_down(action)
            self._check_fault(action)
            goes_on = self._ways[type(action)](vm, action)
        except (OSError, QemuError) as error:
            told = policy.failure(action, error, vm is self.vm)
            if told is not None:
                self._member.call(*told)
        except PowerLoss:
            self._world.power_loss(self._member.name)
        finally:
            if self.dying:
                self._world.kill_daemon(self._member.name)
            elif not goes_on:
                self._ended(action)

    def _check_fault(self, action: object) -> None:
        failed, self.fail_next = self.fail_next and not isinstance(action, effects.KillQemu), False
        if failed:
            raise QemuError("QMP: injected error")

    def _ended(self, action: object) -> None:
        if not self._member.dead:
            self.note_holder()
            if self.operations.running is action:
                self._over()

    def _count_down(self, action: object) -> None:
        if self.dies_after is not None and not isinstance(action, (effects.StartQemu, effects.KillQemu)):
            self.dies_after -= 1
            self.dying = self.dies_after < 0

    # ---- one by one -----------------------------------------------------------------------------------
    def _start(self, vm: None, action: effects.StartQemu) -> None:
        if self._host.qemu is not None and not self._host.qemu.dead:
            self._world.ghost.fail(f"{self._member.name} starts a QEMU beside one that is still there")
        self._host.images.new_qemu()
        qemu = Qemu(self._world.loop, random.Random(self._member.rng.getrandbits(64)), action.incoming)
        if self._world.agreed:
            qemu.speech = Speech(self._world.chance(f"own {qemu.rng.getstate()}"))
        if self._member.config.disks:
            qemu.drive = Drive(self._host.image, self._host.unsynced)
            qemu.drive.exported, qemu.drive.fails = action.incoming, lambda: self._host.image_fails
            if not action.incoming:
                self._disks.mark(self._host.images.boots, self._member.name in self._world.torn_accepted)
                self._disks.forget_copies()
                qemu.ram[DISK0 : DISK0 + BLOCKS] = self._host.image  # a guest that boots reads its disk
        qemu.holds = self._host.frozen
        self.own(qemu)
        self._member.memory.qemu = qemu
        qemu.copy, held = f"{self._member.rng.getrandbits(128):032x}", self._host.copies + self._host.copies_begun
        self._host.copies_begun = [*self._host.copies_begun, qemu.copy][-3:] if action.incoming else []
        self._member.call("qemu_ready", {"qemu_version": "7.2.22", "disk_copy": {"held": held, "next": qemu.copy}})

    def _killed(self, vm: Qemu, action: effects.KillQemu) -> None:
        self._member.memory.qemu = None
        vm.dead = True
        self.operations.reaped(vm)
        if self._host.qemu is vm:
            self._host.qemu = None

    def _stop(self, vm: Qemu, action: effects.StopVm | effects.ColoStop) -> bool:
        """True: it goes on."""
        if vm.drive is not None and vm.drive.under_way:  # QEMU's stop waits for the writes under way
            self._world.loop.after(0.001, vm, self._done, vm, action)
            return True
        last = LastOutput(self._member.taken_bytes)
        vm.running = False
        self._member.output()
        self._ask(vm, action, last)
        return True

    def _ask(self, vm: Qemu, action: effects.StopVm | effects.ColoStop, last: LastOutput) -> None:
        delay_ms = self._member.rng.uniform(*ROUND_MS) if vm.unsent or vm.read_late_s else 0.0
        self._world.loop.after(delay_ms / 1000, vm, self._world.loop.after, 0.0, self._member, self._answered, vm, action, last)

    def _answered(self, vm: Qemu, action: effects.StopVm | effects.ColoStop, last: LastOutput) -> None:
        """A round of plover.qemu.vm's after a stop: QEMU has answered, and what it sent is read."""
        if self.operations.running is not action or vm is not self.vm or vm.dead:
            return
        self._member.output()
        if not last.over(self._member.taken_bytes):
            return self._ask(vm, action, last)
        self._stopped(vm, action)
        self._ended(action)

    def _stopped(self, vm: Qemu, action: effects.StopVm | effects.ColoStop) -> None:
        vm.stopped_as = vm.digest()
        if vm.drive is not None and vm.drive.peer_failed:
            self._member.call("disk_failed", "peer", "Input/output error")
        if vm.drive is not None and vm.drive.lost:
            self._disks.lost_write(vm)
        if self.vm is vm:
            self._member.call("vm_stopped", action.tag)

    def _cont(self, vm: Qemu, action: effects.ContVm) -> None:
        self._run_vm(vm)

    def _run_vm(self, vm: Qemu, promoted: bool = False) -> None:
        if vm.torn():
            self._world.ghost.fail(f"{self._member.name}: the VM runs with memory and devices of different moments")
        vm.run_on(promoted)

    def _reset_guest(self, vm: Qemu, action: effects.ResetGuest) -> None:
        if not (vm.ended or self._world.buttons):
            self._world.ghost.fail(f"{self._member.name}: a guest is reset that does well")
        vm.reset()

    def _save(self, vm: Qemu, action: effects.SaveDevice) -> None:
        self._check_not_lost(vm)
        self._member.call("device_saved", action.tag, vm.save())

    def _check_not_lost(self, vm: Qemu) -> None:
        if vm.drive is not None and vm.drive.lost:
            self._world.ghost.fail(f"{self._member.name}: the state is taken of a VM that reads an old block from its disk")

    def _capture(self, vm: Qemu, action: effects.CaptureStream) -> None:
        self._check_not_lost(vm)
        self._member.call("stream_captured", action.tag, vm.save())

    def _load(self, vm: Qemu, action: effects.FeedStream | effects.ColoLoad) -> None:
        feed = isinstance(action, effects.FeedStream)
        if vm.drive is not None:
            vm.drive.checkpoint()
            vm.drive.secondary = True
            if feed:  # its images are flushed, then it is noted which copy they are
                self._world.loop.after(self._member.rng.uniform(0.002, 0.3), self._member, self._disks.note_copy, vm)
        why = vm.load(action.stream if feed else action.state)
        if why:
            self._world.ghost.fail(f"{self._member.name}: {why}")
        self._run_vm(vm)
        self._member.call("colo_ready" if feed else "colo_loaded", action.tag)

    def _reset(self, vm: Qemu, action: effects.ResetVm) -> None:
        self._member.call("vm_reset", action.tag)

    def _promote(self, vm: Qemu, action: effects.Promote) -> None:
        if not vm.running and vm.stopped_as != vm.digest():
            self._world.ghost.fail(f"{self._member.name}: promoted with pages of two different moments")
        if vm.drive is not None:
            self._disks.mark(self._host.images.promoted)
            self._disks.forget_copies()
            vm.drive.promote()
        self._run_vm(vm, promoted=True)
        self._member.call("promoted")
        self._disks.watch_merge(vm)

    def _track(self, vm: Qemu, action: effects.OpenTracker) -> None:
        self._member.call("tracker_open", action.tag)

    def _fetch(self, vm: Qemu, action: effects.FetchDirty) -> None:
        self._member.call("dirty_fetched", action.tag)
