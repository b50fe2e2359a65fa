# SPDX-License-Identifier: GPL-3.0-or-later
"""After a failover: merges the overlays of a promoted VM into its images, over QMP. Names of nodes: see disks/images.py.

QEMU begins that by itself (block/replication.c, replication_stop), with a job that no query shows. The first error ends the
job, and no event reports it: later flushes of the guest stay in the overlays, that is in memory, for good.
So :meth:`look` reads the merge's progress from the graph, and :meth:`again` begins a job of ours, ``mergeN``, which waits at
an error and can be resumed.

A commit takes no node that others use. So the VM is stopped for some milliseconds, and the device's quorum has ``spareN`` in
place of ``imageN``. The spare answers each read and write with an error: should the VM ever run on it, nothing is lost in
silence. Each step first checks whether it is done already, so an interrupted merge goes on where it stopped.
(Reopening ``imageN`` over another node would be simpler, but QEMU 7.2 aborts then: it loses count of drained parents.)
"""

from __future__ import annotations

import errno
from typing import Any, NamedTuple

from ..config.disks import Disk
from ..config.settings import Config
from ..errors import LostWritesError, QemuError
from .block_graph import BlockGraph
from .images import overlay_path, used_bytes
from .monitor import Monitor

OVERLAYS = ("active", "hidden")
MERGED, MERGING, FAILED = "merged", "merging", "failed"


class Merge(NamedTuple):
    over: bool
    error: str = ""  # why it stopped; it goes on with :meth:`BlockMerge.again`


class BlockMerge:
    """One for each QEMU."""

    def __init__(self, config: Config, qmp: Monitor, graph: BlockGraph) -> None:
        self._config, self._qmp, self._graph = config, qmp, graph
        self._disks = config.disk_list

    async def look(self) -> Merge:
        """The merge's progress. If it is over, merged overlays are removed.

        Raises LostWritesError if a job of ours could not flush the image. (A resumed job would flush again, and QEMU would
        treat data that the first flush lost as saved. With buffered images QEMU would fail for good.)
        """
        jobs, view = await self._jobs(), await self._graph.view()
        errors = []
        for disk in self._disks:
            state, error = _state(disk, view, jobs.get(disk.node("merge")))
            if state == FAILED:
                if await self._cannot_flush(jobs.get(disk.node("merge"))):
                    raise LostWritesError(f"disk {disk.number}: all was written to the image, but it could not be flushed")
                errors.append(f"disk {disk.number}: {error}")
            elif state == MERGING:
                await self._help(disk, jobs.get(disk.node("merge")))
        over = all(_state(disk, view, jobs.get(disk.node("merge")))[0] == MERGED for disk in self._disks)
        if over:
            await self.clean()
        return Merge(over, "; ".join(errors))

    async def again(self) -> None:
        """Let each failed merge go on. Raises QemuError; it may be called again then."""
        jobs, view = await self._jobs(), await self._graph.view()
        begin = []
        for disk in self._disks:
            job = jobs.get(disk.node("merge"))
            if _state(disk, view, job)[0] == FAILED:
                if _waits(job):
                    await self._qmp.execute("job-resume", id=disk.node("merge"))
                else:
                    begin.append(disk)
        if begin:
            await self._begin(begin)

    async def mend(self) -> None:
        """Finish an :meth:`again` that the daemon before this one did not finish. No VM may run before."""
        nodes = await self._graph.names()
        for disk in self._disks:
            if disk.node("spare") in nodes:
                await self._swap(disk)

    async def clean(self) -> None:
        """Remove merged overlays."""
        nodes = await self._graph.names()
        for disk in self._disks:
            for kind in OVERLAYS:
                if disk.node(kind) in nodes:
                    await self._qmp.execute("blockdev-del", **{"node-name": disk.node(kind)})
                    overlay_path(self._config, disk, kind).unlink(missing_ok=True)

    def used_bytes(self) -> int:
        """Space that the overlays take on their file system."""
        return used_bytes(self._config, OVERLAYS)

    async def limit_writes(self, bytes_per_s: int) -> None:
        """Of the guest; 0 = no limit."""
        for disk in self._disks:
            await self._qmp.execute(
                "block_set_io_throttle", id=disk.device, bps=0, bps_rd=0, bps_wr=bytes_per_s, iops=0, iops_rd=0, iops_wr=0
            )

    # ---- the job ----------------------------------------------------------------------------------------------
    async def _jobs(self) -> dict[str, dict[str, Any]]:
        names = {disk.node("merge") for disk in self._disks}
        return {job["device"]: job for job in await self._qmp.execute("query-block-jobs") if job["device"] in names}

    async def _help(self, disk: Disk, job: dict[str, Any] | None) -> None:
        """Complete a job of ours that is ready: as it waits at errors, it does not complete by itself."""
        if job is not None and job["status"] == "ready":
            await self._qmp.execute("job-complete", id=disk.node("merge"))

    async def _cannot_flush(self, job: dict[str, Any] | None) -> bool:
        """Does the job wait at a failed flush? After a failed read or write there would be work left."""
        if job is None or not _waits(job) or job["offset"] < job["len"]:
            return False
        try:
            await self._qmp.execute("job-pause", id=job["device"])
        except QemuError as error:
            if "already paused" in str(error):
                return True
            raise
        await self._qmp.execute("job-resume", id=job["device"])  # it only paused for a moment, as QEMU's jobs do
        return False

    async def _begin(self, disks: list[Disk]) -> None:
        runs = (await self._qmp.execute("query-status"))["running"]
        if runs:
            await self._qmp.execute("stop")
        for disk in disks:
            await self._swap(disk)  # if it fails, the VM stays stopped: it must not run on the spare
        if runs:
            await self._qmp.execute("cont")

    async def _swap(self, disk: Disk) -> None:
        """Put ``imageN`` on top of our job; before, it is on QEMU's filter or directly on the overlays."""
        top, image, spare, job = (disk.node(kind) for kind in ("top", "image", "spare", "merge"))
        await self._put_spare_in(disk)
        if image in await self._graph.names() and disk.node("merging") not in await self._graph.below(image):
            await self._child(top, image, gone=True)
            await self._qmp.execute("blockdev-del", **{"node-name": image})
        nodes, refused = await self._graph.names(), None
        if disk.node("repl") in nodes:  # otherwise it reports a failed failover for good, and refuses a new secondary
            await self._qmp.execute("blockdev-del", **{"node-name": disk.node("repl")})
        if image not in nodes:
            below = disk.node("merging")
            try:
                await self._commit(disk, job, below)
            except QemuError as error:  # the VM runs on with its overlays, as before
                below, refused = disk.node("active"), error
            await self._qmp.execute("blockdev-add", driver="raw", file=below, **{"node-name": image})
        await self._child(top, image)
        await self._child(top, spare, gone=True)
        await self._qmp.execute("blockdev-del", **{"node-name": spare})
        if refused is not None:
            raise refused

    async def _put_spare_in(self, disk: Disk) -> None:
        spare = disk.node("spare")
        if spare not in await self._graph.names():
            size = (await self._graph.sizes())[disk.number]
            fails = [{"event": "none", "errno": errno.EIO, "once": False}]
            await self._qmp.execute(
                "blockdev-add", driver="blkdebug", image={"driver": "null-co", "size": size}, **{"node-name": spare, "inject-error": fails}
            )
        await self._child(disk.node("top"), spare)

    async def _commit(self, disk: Disk, job: str, above: str) -> None:
        if above in await self._graph.names():
            return
        await self._qmp.execute(
            "block-commit",
            device=disk.node("active"),
            **{"base-node": disk.node("disk"), "job-id": job, "filter-node-name": above, "on-error": "stop"},
        )

    async def _child(self, top: str, node: str, gone: bool = False) -> None:
        """Make ``node`` a child of the quorum ``top``, or (``gone``) remove it there."""
        child = (await self._graph.edges()).get((top, node))
        if gone and child:
            await self._qmp.execute("x-blockdev-change", parent=top, child=child)
        elif not gone and not child:
            await self._qmp.execute("x-blockdev-change", parent=top, node=node)


def _waits(job: dict[str, Any] | None) -> bool:
    """Does it wait at an error? (Its io-status would say which one, but each "cont" of the VM resets that to "ok".)"""
    return job is not None and job["status"] in ("paused", "standby")


def _state(disk: Disk, view: dict[str, str | None], job: dict[str, Any] | None) -> tuple[str, str]:
    """``view``: node -> the node below it that has its data."""
    active = disk.node("active")
    if active not in view:
        return MERGED, ""
    if disk.node("spare") in view:
        return FAILED, "the merge was interrupted"
    below = view.get(disk.node("image"))
    if below == disk.node("repl"):
        below = view.get(below)
    if below == disk.node("disk"):
        return MERGED, ""
    if below == active:
        return FAILED, "QEMU gave the merge up after an error of the image"
    if _waits(job):
        return FAILED, "no room for the image, or an error of it"
    return MERGING, ""
