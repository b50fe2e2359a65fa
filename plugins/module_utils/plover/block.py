# SPDX-License-Identifier: GPL-3.0-or-later
"""The block layer of one running QEMU, over QMP: export, copy to a new secondary, replicate, let go.

The copy is a mirror, while the VM runs: unlike QEMU's backup it never makes a write of the guest wait for the secondary, or
fail with it. What is left is sent in the moment in which the VM stands still. Names of nodes: see disks.py.

From that moment on a bitmap, named as the copy is, notes every write. A secondary that comes back with that copy differs
in those blocks at most, however it ended. If they are few they are all that is sent, while the VM stands still.
"""
from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from .config import Config
from .disks import Disk, overlay_path
from .errors import QemuError
from .qmp import Qmp

log = logging.getLogger("plover")
GRANULARITY_BYTES = 65_536
FEW_BYTES = 32 << 20  # sent while the VM stands still: a fraction of a second on any link worth the name
LOOK_S = 0.02
REST_S_MAX = 10.0
Progress = Callable[[int, int], None]


class BlockLayer:
    def __init__(self, config: Config, qmp: Qmp) -> None:
        self._config, self._qmp = config, qmp
        self._disks = config.disk_list

    async def sizes(self) -> list[int]:
        """Bytes of each disk, as the guest sees them."""
        nodes = {n["node-name"]: n["image"]["virtual-size"] for n in await self._nodes()}
        return [nodes[disk.node("disk")] for disk in self._disks]

    async def export(self) -> None:
        """A secondary: take the leader's writes to the images."""
        address = self._config.members[self._config.member]["address"]
        await self._qmp.execute("nbd-server-start", **{"max-connections": 0},
                                addr={"type": "inet", "data": _endpoint(address, self._config.disk_port)})
        for disk in self._disks:
            await self._qmp.execute("block-export-add", type="nbd", id=disk.node("export"), name=disk.node("disk"),
                                    writable=True, **{"node-name": disk.node("disk")})

    async def end_export(self) -> None:
        """Nobody writes to the images from outside any more; then the VM's own writes may go to them."""
        await self._qmp.execute("nbd-server-stop")

    # ---- the leader ---------------------------------------------------------------------------------------------
    async def copy(self, address: str, held: str, progress: Progress) -> None:
        """Make the images at ``address`` nearly equal to ours, while the VM runs. ``progress(done, total)`` in bytes.

        ``held``: name of the copy that they are by now.
        """
        await self._own_overlays_gone(progress)
        await self.detach()
        sizes, before = await self.sizes(), 0
        total = sum(sizes)
        known = bool(held) and all([await self._bitmap(disk) == held for disk in self._disks])
        few = known and await self._dirty_bytes() <= FEW_BYTES
        for disk, size in zip(self._disks, sizes):
            await self._qmp.execute("blockdev-add", driver="nbd", export=disk.node("disk"),
                                    server={"type": "inet", **_endpoint(address, self._config.disk_port)},
                                    **{"node-name": disk.node("nbd")})
            if not few:
                await self._qmp.execute("blockdev-mirror", device=disk.node("top"), target=disk.node("nbd"), sync="full",
                                        speed=self._config.disk_copy_mib_per_s << 20,
                                        **{"job-id": disk.node("copy"), "auto-dismiss": False})
                await self._job(disk, "ready", lambda done, start=before: progress(min(start + done, total), total))
            before += size
        log.info("disks: sent %s", f"what changed since copy {held}" if few else f"all {total >> 20} MiB")

    async def attach(self, name: str) -> None:
        """The VM stands still: send what is left, then let each write go to both images from here on.

        ``name``: of this copy; what is written from now on is noted under it.
        """
        for disk in self._disks:
            await self._send_rest(disk)
            await self._name_bitmap(disk, name)
            await self._qmp.execute("blockdev-add", driver="replication", mode="primary", file=disk.node("nbd"),
                                    **{"node-name": disk.node("peer")})
            await self._qmp.execute("x-blockdev-change", parent=disk.node("top"), node=disk.node("peer"))
        await self._qmp.execute("xen-set-replication", enable=True, primary=True)

    async def cut(self) -> None:
        """Out of band, so that it works on a QEMU whose main loop waits for a secondary that does not answer."""
        if not self._disks:
            return
        for instance in await self._qmp.execute("query-yank", oob=True):
            if instance.get("type") == "block-node":
                await self._qmp.execute("yank", oob=True, instances=[instance])

    async def detach(self) -> None:
        """Write to our own images alone again. Does nothing if it is so already."""
        await self.cut()
        for job in await self._qmp.execute("query-jobs"):
            await self._end_job(job)
        nodes = {node["node-name"] for node in await self._nodes()}
        edges = await self._edges()
        if any((disk.node("top"), disk.node("peer")) in edges for disk in self._disks):
            await self._qmp.execute("xen-set-replication", enable=False, primary=True)
        for disk in self._disks:
            child = edges.get((disk.node("top"), disk.node("peer")))
            if child:
                await self._qmp.execute("x-blockdev-change", parent=disk.node("top"), child=child)
            for kind in ("peer", "nbd"):
                if disk.node(kind) in nodes:
                    await self._qmp.execute("blockdev-del", **{"node-name": disk.node(kind)})

    # ---- jobs and bitmaps -----------------------------------------------------------------------------------------
    async def _name_bitmap(self, disk: Disk, name: str) -> None:
        """A bitmap of this name, empty, in place of the one before. The VM stands still."""
        before = await self._bitmap(disk)
        if before is not None:
            await self._qmp.execute("block-dirty-bitmap-remove", node=disk.node("top"), name=before)
        await self._qmp.execute("block-dirty-bitmap-add", node=disk.node("top"), name=name, granularity=GRANULARITY_BYTES)

    async def _send_rest(self, disk: Disk) -> None:
        """The end of the mirror, or what the bitmap says."""
        if any(job["id"] == disk.node("copy") for job in await self._qmp.execute("query-jobs")):
            await self._qmp.execute("block-job-cancel", device=disk.node("copy"))  # of a ready mirror: its good end
        else:
            await self._qmp.execute("blockdev-backup", device=disk.node("top"), target=disk.node("nbd"), sync="bitmap",
                                    bitmap=await self._bitmap(disk),
                                    **{"job-id": disk.node("copy"), "bitmap-mode": "on-success", "auto-dismiss": False})
        await self._job(disk, "concluded", lambda done: None, REST_S_MAX)

    async def _job(self, disk: Disk, wanted: str, progress: Callable[[int], None], seconds_max: float = 0.0) -> None:
        """Wait until the copy's job is ``wanted``; once concluded it is dismissed. Raises QemuError if it failed."""
        name, loop = disk.node("copy"), asyncio.get_running_loop()
        end = loop.time() + seconds_max if seconds_max else float("inf")
        while True:
            state = next((j for j in await self._qmp.execute("query-jobs") if j["id"] == name), None)
            if state is None:
                raise QemuError(f"the copy of disk {disk.number} was given up")
            if state["status"] == "concluded":
                await self._qmp.execute("job-dismiss", id=name)
                if state.get("error") or wanted != "concluded":
                    raise QemuError(f"copying disk {disk.number} to the secondary: {state.get('error', 'it ended')}")
                return
            if state["status"] == wanted:
                return progress(state["current-progress"])
            if loop.time() > end:
                raise QemuError(f"the last of disk {disk.number} was not copied within {seconds_max:.0f} s")
            progress(state["current-progress"])
            await asyncio.sleep(LOOK_S if not seconds_max else LOOK_S / 10)

    async def _end_job(self, job: dict[str, Any]) -> None:
        if job["id"] not in {disk.node("copy") for disk in self._disks}:
            return
        try:
            if job["status"] != "concluded":
                await self._qmp.execute("job-cancel", id=job["id"])
            for _ in range(200):
                left = next((j for j in await self._qmp.execute("query-jobs") if j["id"] == job["id"]), None)
                if left is None:
                    return
                if left["status"] == "concluded":
                    return await self._qmp.execute("job-dismiss", id=job["id"])
                await asyncio.sleep(LOOK_S)
        except QemuError:
            if any(j["id"] == job["id"] for j in await self._qmp.execute("query-jobs")):
                raise  # else it ended by itself just now
            return
        raise QemuError(f"job {job['id']} does not end")

    async def _own_overlays_gone(self, progress: Progress) -> None:
        """After a failover QEMU merges the overlays into the image by a job of its own; it must have ended."""
        overlays = {(disk.node("repl"), disk.node("active")) for disk in self._disks}
        while overlays & set(await self._edges()):
            progress(0, 1)
            await asyncio.sleep(LOOK_S)
        nodes = {node["node-name"] for node in await self._nodes()}
        for disk in self._disks:
            for kind in ("active", "hidden"):
                if disk.node(kind) in nodes:
                    await self._qmp.execute("blockdev-del", **{"node-name": disk.node(kind)})
                    overlay_path(self._config, disk, kind).unlink(missing_ok=True)

    async def written_bytes(self) -> int:
        """By the guest, since QEMU's start."""
        return sum(device["stats"]["wr_bytes"] for device in await self._qmp.execute("query-blockstats"))

    # ---- looking ----------------------------------------------------------------------------------------------------
    async def _nodes(self) -> list[dict[str, Any]]:
        return await self._qmp.execute("query-named-block-nodes", flat=True)

    async def _bitmap(self, disk: Disk) -> str | None:
        """Name of the disk's bitmap."""
        return next((bitmap["name"] for bitmap in await self._bitmaps_of(disk)), None)

    async def _bitmaps_of(self, disk: Disk) -> list[dict[str, Any]]:
        top = disk.node("top")
        nodes = [node for node in await self._nodes() if node["node-name"] == top]
        return [bitmap for node in nodes for bitmap in node.get("dirty-bitmaps", []) if bitmap.get("name")]

    async def _dirty_bytes(self) -> int:
        return sum([bitmap["count"] for disk in self._disks for bitmap in await self._bitmaps_of(disk)])

    async def _edges(self) -> dict[tuple[str, str], str]:
        """(parent, child) -> the name the parent gives it."""
        graph = await self._qmp.execute("x-debug-query-block-graph")
        names = {node["id"]: node["name"] for node in graph["nodes"]}
        return {(names[edge["parent"]], names[edge["child"]]): edge["name"] for edge in graph["edges"]}


def _endpoint(host: str, port: int) -> dict[str, str]:
    return {"host": host, "port": str(port)}
