# SPDX-License-Identifier: GPL-3.0-or-later
"""A simulated replica's work on its disk, as plover.replica.disk_work: copies, lost writes, the merge, the marks."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import TYPE_CHECKING

from plover.ports import effects

from .blocks import FINE, FULL, GONE, SILENT, TORN, Drive
from .disk import PowerLoss
from .guest import Qemu
from .images import MERGE_S

if TYPE_CHECKING:
    from .replica import ReplicaMember


class DiskWork:
    """``member``: the daemon it belongs to."""

    def __init__(self, member: ReplicaMember) -> None:
        self._member, self._host, self._world = member, member.host, member.world
        self._copying: effects.CopyDisks | None = None

    def copy(self, action: effects.CopyDisks) -> None:
        self._copying = action
        self._later(0.005, 0.04, self._copied, self._member.vm, action)

    def hash(self, action: effects.HashDisks) -> None:
        self._later(0.001, 0.06, self._hashed, action)

    def cut(self) -> None:
        """At once; the graph is put in order by the detach, in its turn."""
        self._copying = None
        if self._member.vm is not None and self._member.vm.drive is not None:
            self._member.vm.drive.detach()

    def hold(self) -> None:
        if self._member.vm is not None and self._member.vm.drive is not None:
            self._member.vm.drive.hold()

    def pass_on(self) -> None:
        if self._member.vm is not None and self._member.vm.drive is not None:
            self._member.vm.drive.pass_on()

    def _later(self, low_s: float, high_s: float, work: Callable[..., None], *arguments: object) -> None:
        self._world.loop.after(self._member.rng.uniform(low_s, high_s), self._member, work, *arguments)

    def _peer_drive(self) -> Drive | None:
        """The other host's disk, if it takes our writes now."""
        host = self._world.hosts[self._member.other]
        there = host.qemu is not None and not host.qemu.dead and host.qemu.drive is not None and host.qemu.drive.exported
        return host.qemu.drive if there and self._reach(host.qemu) == FINE else None

    def _reach(self, qemu: Qemu) -> str:
        cut = {(self._member.name, self._member.other), (self._member.other, self._member.name)} & set(self._world.network.cut_since)
        if cut or not self._world.hosts[self._member.other].on or (qemu.holds and not qemu.dead):
            return SILENT
        if qemu.dead:
            return GONE
        return FULL if self._world.hosts[self._member.other].disk.full else FINE

    def _copied(self, vm: Qemu, action: effects.CopyDisks) -> None:
        if self._copying is not action or vm is not self._member.vm:
            return
        peer = self._peer_drive()
        if peer is None:
            self._member.call("failed", action.tag, "NBD: no answer")
        elif self._peer_marked():
            vm.drive.copy_to(peer, action.held, action.name, self._member.rng)
            self._member.call("disks_copied", action.tag)

    def attach(self, vm: Qemu, action: effects.AttachDisks) -> None:
        peer = self._peer_drive()
        if peer is None:
            return self._member.call("failed", action.tag, "NBD: no answer")
        qemu = self._world.hosts[self._member.other].qemu
        vm.drive.attach(peer)
        vm.drive.on_lost = lambda: self._member.dead or self._later(0.0, 0.001, self.lost_write, vm)
        vm.drive.reach = lambda: self._reach(qemu)
        self._member.call("disks_attached", action.tag)

    def lost_write(self, vm: Qemu) -> None:
        """As QEMU tells it, by an event."""
        if self._member.vm is vm:
            self._member.call("disk_failed", "image0", "Input/output error", True)

    def watch_merge(self, vm: Qemu, action: effects.MergeDisks | None = None) -> None:
        if vm.drive is not None:
            self._world.loop.after(self._host.images.rng.uniform(*MERGE_S), self._member, self._merge, vm)

    def _merge(self, vm: Qemu) -> None:
        if vm is not self._member.vm or vm.dead:
            return
        if vm.drive.merging and self._host.merge_fails:
            return self._member.call("disks_unmerged", "no room")
        if vm.drive.merging:
            vm.drive.merge()
        self._merged(vm)
        if not self._member.dead:
            self._member.call("disks_merged")

    def _hashed(self, action: effects.HashDisks) -> None:
        self._member.call("disks_hashed", action.tag, array("Q", self._host.image).tobytes())

    def mark(self, step: Callable[..., None], *more: object) -> None:
        """Mark our image; the core learns the mark that is now on disk."""
        try:
            step(self._member.consensus.view, *more)
        finally:
            self._member.core.marks = self._host.images.marks.now

    def _peer_marked(self) -> bool:
        """The leader knocks: the other host marks its image before the first block comes, see plover.disks.copy_gate."""
        peer = self._world.members[self._member.other]
        try:
            if not peer.dead and not peer.holds:
                peer.disk_work.mark(self._world.hosts[self._member.other].images.copy_begins)
                return True
        except OSError as error:
            peer.call("disk_failed", "disk", str(error))
        except PowerLoss:
            self._world.power_loss(self._member.other)
        self._member.call("failed", self._copying.tag, "no answer to the knock") if self._copying else None
        return False

    def _merged(self, vm: Qemu) -> None:
        """Flushed and synced as well."""
        if vm is self._member.vm and not vm.dead:
            self._mark_quietly(self._host.images.merged)

    def _mark_quietly(self, step: Callable[..., None]) -> None:
        try:
            self.mark(step)
        except OSError as error:
            self._world.note(self._member.name, f"the mark stays as it is: {error}")
        except PowerLoss:
            self._world.power_loss(self._member.name)

    def note_copy(self, vm: Qemu) -> None:
        if vm is self._member.vm and not vm.drive.promoted and self._host.loses_writes:
            self._lose_copy(vm)
        elif vm is self._member.vm and not vm.drive.promoted:
            self._mark_quietly(self._host.images.copied)
            self._host.copies, self._host.copies_begun = [vm.copy], []

    def _lose_copy(self, vm: Qemu) -> None:
        """The sync fails: the cached writes are thrown away, and the next sync will succeed."""
        vm.running = False  # what it would read now goes nowhere, if the core does what it must
        for block in self._host.unsynced:
            self._host.image[block] = TORN
        self._host.unsynced.clear()
        self._mark_quietly(self._host.images.copy.spoiled)
        self._forget_lost_copy()
        self._member.call("copy_lost", None, "Input/output error")

    def _forget_lost_copy(self) -> None:
        self.forget_copies()

    def forget_copies(self) -> None:
        self._host.copies, self._host.copies_begun = [], []

    def detached(self, vm: Qemu, action: effects.DetachDisks) -> None:
        vm.drive.detach()
        vm.drive.peer_failed = False
