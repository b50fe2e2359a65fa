# SPDX-License-Identifier: GPL-3.0-or-later
"""The replica daemon's work on disks outside the queue of QEMU's operations: the copy, errors, pressure."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any

from ..config.disks import Disk
from ..core.disk_marks import MERGING
from ..core.reprotection import SECONDARY_NODES
from ..disks.image_files import ImageFiles
from ..disks.images import hash_blocks, hashed_bytes
from ..disks.local_images import LocalImages
from ..disks.marks import DiskMarks
from ..disks.untold_flush import TOGETHER_S, UntoldFlush
from ..errors import LostWritesError, QemuError
from ..ports import effects
from ..qemu.process import flush_failed
from ..qemu.vm import Vm
from .audit_progress import Hashing
from .disk_path import DiskPath
from .merge_watch import MergeWatch
from .shell import Shell

log = logging.getLogger("plover")
REPORT_S = 5.0
PRESSURE_LOOK_S = 0.1
MISSED, TOLD = "QUORUM_REPORT_BAD", "BLOCK_IO_ERROR"  # QEMU's events: an error of an image; of the guest's device


class DiskWork:
    def __init__(self, shell: Shell) -> None:
        self._shell, self._config = shell, shell.config
        self._images = ImageFiles()
        self.marks = DiskMarks(self._config, images=self._images)
        self.path = DiskPath(shell)
        self._copying: asyncio.Task[None] | None = None
        self._told_at = self._began = 0.0
        self._untold = UntoldFlush()
        self.hashing: Hashing | None = None
        self.merge = MergeWatch(shell, self._merged, self._lost_after_failover)

    def watch(self, vm: Vm) -> None:
        """Watch the errors of ``vm``'s disks, and how much it writes."""
        if self._config.disks:
            self._untold = UntoldFlush()
            self._shell.spawn(self._watch(vm))
            self._shell.spawn(self._look_at_pressure(vm))

    def new_images(self) -> LocalImages:
        """For a new QEMU; they share the marks and held files of the one before."""
        return LocalImages(self._config, marks=self.marks, images=self._images)

    # ---- a secondary's images ------------------------------------------------------------------------------------
    async def wait_for_copy(self, vm: Vm) -> None:
        """An empty secondary: the leader may write to its images only from the copy's beginning on."""
        if self._config.disks:
            await self.path.wait(vm, lambda address: self._take_copy(vm, address))

    async def _take_copy(self, vm: Vm, address: dict[str, object]) -> None:
        if vm is not self._shell.vm:
            raise QemuError("the QEMU that waited for this copy is gone")
        try:
            await asyncio.to_thread(vm.images.torn, self._shell.core.consensus.view)
            self.tell_marks()
            await vm.block.export(address)
        except (QemuError, OSError) as error:
            self._shell.answer("disk_failed", "disk", f"no copy can begin: {error}")
            raise

    def promoted(self, vm: Vm) -> None:
        """Watch the merge: until it is over, the images mix the states of two moments."""
        if self._config.disks:
            self.path.close()
            self.tell_marks()
            self._shell.spawn(self._replicated(vm))
            self.merge.begin(vm)

    def adopted(self, vm: Vm) -> None:
        """The daemon before this one may have promoted it."""
        self.promoted(vm)

    async def _replicated(self, vm: Vm) -> None:
        if vm.replicated_saved is not None:
            try:
                await vm.replicated_saved
            except LostWritesError as error:
                await self._lost_after_failover(vm, error)

    async def _merged(self, vm: Vm) -> None:
        """QEMU says the merge is over. Raises QemuError or OSError if that is not certain yet; then ask again."""
        if not any(mark.state == MERGING for mark in self.marks.now):
            return  # there were none
        if vm.replicated_saved is not None:
            await asyncio.wait([vm.replicated_saved])
        view = self._shell.core.consensus.view
        try:
            for disk in self._config.disk_list:
                await self._flush(vm, disk, view)
            if await asyncio.to_thread(vm.images.merged, view):
                log.info("disks: the overlays are merged into the images, and on the disk")
        except LostWritesError as error:
            await self._lost_after_failover(vm, error)
        finally:
            self.tell_marks()

    async def _lost_after_failover(self, vm: Vm, error: LostWritesError) -> None:
        await self._mark_lost(vm, self._shell.core.consensus.view)
        if vm is self._shell.vm:
            log.error("disks: some writes did not get into this host's images after the failover: %s", error)
            self._shell.answer("copy_lost", None, str(error))

    def close(self) -> None:
        """QEMU is gone."""
        self.path.close()

    def tell_marks(self) -> None:
        self._shell.core.marks = self.marks.now

    # ---- the copy ---------------------------------------------------------------------------------------------
    def copy(self, vm: Vm, action: effects.CopyDisks) -> None:
        self._stop_copying()
        self._began = self._told_at = self._shell.loop.time()
        self._copying = self._shell.spawn(self._copy(vm, action))

    async def _copy(self, vm: Vm, action: effects.CopyDisks) -> None:
        tag = action.tag
        try:
            await vm.block.copy(
                lambda name: self.path.begin(vm, name), action.held, action.name, lambda done, total: self._progress(tag, done, total)
            )
            self._shell.answer("disks_copied", tag)
            await vm.block.keep_up()
        except QemuError as error:
            self._shell.answer("failed", tag, str(error))

    def _progress(self, tag: effects.Tag, done: int, total: int) -> None:
        now = self._shell.loop.time()
        self._shell.answer("copy_progress", tag, done, total)
        if now - self._told_at >= REPORT_S and done:
            self._told_at, rate = now, done / (now - self._began)
            log.info(
                "disks: %d of %d MiB copied to %s, %.0f MiB/s, %.0f s left",
                done >> 20,
                total >> 20,
                self._shell.peer,
                rate / (1 << 20),
                (total - done) / rate,
            )

    def filled(self, vm: Vm) -> None:
        """A secondary: its images are now this copy of the leader's."""
        if self._config.disks:
            self._shell.spawn(self._note_copy(vm))

    async def _note_copy(self, vm: Vm) -> None:
        view = self._shell.core.consensus.view
        try:
            for disk in self._config.disk_list:
                if disk.format != "raw":
                    await self._flush(vm, disk, view)
            if flush_failed(self._config):
                await asyncio.to_thread(vm.images.spoiled, view)
                raise LostWritesError("a flush of QEMU's failed meanwhile")
            if not await asyncio.to_thread(vm.images.write, view):
                log.warning(
                    "the copy of the disks is not noted, so it will be made anew next time: not all images are on "
                    "file systems with extended attributes (user.plover.copy)"
                )
            self._shell.core.copies_failed = 0
        except (QemuError, OSError) as error:
            if vm is self._shell.vm:
                log.error("a part of the copy on this host's disks is lost, so all of it will be copied again: %s", error)
                self._shell.answer("copy_lost", None, str(error))
        finally:
            self.tell_marks()

    async def _flush(self, vm: Vm, disk: Disk, view: int) -> None:
        try:
            await vm.block.flush(disk)
        except LostWritesError:
            await asyncio.to_thread(vm.images.spoiled, view)
            raise

    def _stop_copying(self) -> None:
        if self._copying:
            self._copying.cancel()
            self._copying = None

    async def stopped(self, vm: Vm) -> None:
        """The leader's VM is stopped. If the secondary's image lacks a write, no syncvm may rely on that image.

        If our own image lacks one, QEMU has sent an event before its stop was over, and we get it before this answer.
        """
        error = await vm.block.peer_error()
        if error:
            self._shell.answer("disk_failed", "peer", error)

    def detach(self, vm: Vm | None) -> None:
        """At once, whatever QEMU's operations wait for. The queued DetachDisks puts the graph in order."""
        self._stop_copying()
        self.path.cut()
        if vm is not None:
            self._shell.spawn(self._cut(vm))

    async def _cut(self, vm: Vm) -> None:
        with contextlib.suppress(QemuError):  # QEMU is not open, or the queued DetachDisks cuts again
            await vm.block.cut()

    def hash(self, action: effects.HashDisks) -> None:
        self._shell.spawn(self._hash(action.tag))

    async def _hash(self, tag: effects.Tag) -> None:
        try:
            self.hashing = Hashing(tag, hashed_bytes(self._config), self._shell.loop.time())
            hashes = await asyncio.to_thread(hash_blocks, self._config, self._shell.memory.digest, self.hashing.count)
        except QemuError as error:
            log.error("audit of the disks: %s", error)
            hashes = b""  # differs from any other
        self._shell.answer("disks_hashed", tag, hashes)

    # ---- QEMU's events ------------------------------------------------------------------------------------------
    async def _watch(self, vm: Vm) -> None:
        await vm.qmp.watch((MISSED, TOLD), lambda name, data: self._error(vm, name, data))

    def _error(self, vm: Vm, name: str, data: dict[str, Any]) -> None:
        if vm is not self._shell.vm:
            return
        what = data.get("operation", data.get("type", "I/O"))
        text = str(data.get("error") or data.get("reason") or f"{what} failed")[:200]
        lost = name == MISSED and data.get("type") != "read" and vm.block.hides_errors
        node = str(data.get("node-name", "disk"))[:40]
        ours, stops = not node.startswith(SECONDARY_NODES), name == TOLD and data.get("action") == "stop"
        untold = ours and not lost and self._is_untold_flush(name, data, text)
        if ours and (lost or untold):
            self._shell.spawn(self._mark_lost(vm, self._shell.core.consensus.view))
        if untold:
            return self._shell.answer(
                "copy_lost",
                None,
                f"a flush failed ({text}), of which QEMU does not tell the guest: it "
                "stops the VM and repeats the flush, which may then succeed",
            )
        if name == MISSED and data.get("type") == "flush" and not lost and self._forgets(node):
            self._shell.spawn(self._was_guest_told(vm, text))
        self._shell.answer("disk_failed", node, text, lost)
        if stops and vm is self._shell.vm:
            self._shell.answer("vm_waits_for_disk", text)

    def _is_untold_flush(self, name: str, data: dict[str, Any], text: str) -> bool:
        now = self._shell.loop.time()
        if name == TOLD and data.get("action") == "report":
            self._untold.guest_told(now, text)
        if name == MISSED and data.get("type") == "flush":
            return self._untold.flush_failed(now, text)
        return name == TOLD and data.get("action") == "stop" and self._untold.vm_stopped(now, text)

    def _forgets(self, node: str) -> bool:
        """QEMU lets the next flush of this image succeed, after one that failed."""
        return any(node == disk.node("image") and disk.cache == "none" for disk in self._config.disk_list)

    async def _was_guest_told(self, vm: Vm, text: str) -> None:
        failed_at = self._shell.loop.time()
        await asyncio.sleep(TOGETHER_S)
        if vm is self._shell.vm and self._untold.nobody_told(failed_at, text):
            await self._mark_lost(vm, self._shell.core.consensus.view)
            self._shell.answer("copy_lost", None, f"a flush failed ({text}) of which the guest does not know")

    async def _mark_lost(self, vm: Vm, view: int) -> None:
        """Neither a cold start nor a copy may begin from an image that lacks a write."""
        await asyncio.to_thread(vm.images.spoiled, view)
        self.tell_marks()

    async def _look_at_pressure(self, vm: Vm) -> None:
        """A secondary's overlays hold all writes since the last syncvm; these must not fill their file system."""
        limit, since = self._config.disk_overlay_mib << 19, SinceSyncvm()
        while vm is self._shell.vm:
            leader = self._shell.core.leading
            if leader and leader.protected:
                with contextlib.suppress(QemuError):  # QEMU hangs for a while, or ends: its exit is noticed elsewhere
                    taken = since.look(self._shell.core.totals["syncvms"], await vm.block.overlay_bytes())
                    if taken > limit and vm is self._shell.vm and not leader.disk_pressure:
                        self._shell.answer("disk_pressure", taken)
            await asyncio.sleep(PRESSURE_LOOK_S)


class SinceSyncvm:
    """Growth of a counter since the last syncvm; rather too much than too little."""

    def __init__(self) -> None:
        self._syncvms = self._base = self._last = 0

    def look(self, syncvms: int, now: int) -> int:
        if syncvms != self._syncvms:  # the syncvm was some time after the last look
            self._syncvms, self._base = syncvms, self._last
        self._last = now
        return now - self._base
