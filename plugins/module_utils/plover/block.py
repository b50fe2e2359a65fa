# SPDX-License-Identifier: GPL-3.0-or-later
"""The block layer of one running QEMU, over QMP: export, copy to a new secondary, replicate, let go.

Names of nodes: see disks.py. The bitmap of a copy (block_copy.py) notes every write of the guest from then on: a secondary
that comes back with that copy differs in those blocks at most, however it ended, and gets only them.
"""
from __future__ import annotations

import asyncio

from .block_copy import LOOK_S, BlockCopy, Progress
from .block_graph import BlockGraph
from .config import Config
from .copy_gate import knock
from .disks import Disk, overlay_path
from .errors import QemuError
from .qmp import Qmp


class BlockLayer:
    def __init__(self, config: Config, qmp: Qmp) -> None:
        self._config, self._qmp = config, qmp
        self._disks = config.disk_list
        self._graph = BlockGraph(config, qmp)
        self._copy = BlockCopy(config, qmp, self._graph)

    async def sizes(self) -> list[int]:
        """Bytes of each disk, as the guest sees them."""
        return await self._graph.sizes()

    async def written_bytes(self) -> int:
        """By the guest, since QEMU's start."""
        return sum(device["stats"]["wr_bytes"] for device in await self._qmp.execute("query-blockstats"))

    # ---- the secondary ----------------------------------------------------------------------------------------------
    async def export(self) -> None:
        """Take the leader's writes to the images."""
        address = self._config.members[self._config.member]["address"]
        await self._qmp.execute("nbd-server-start", **{"max-connections": 0},
                                addr={"type": "inet", "data": _endpoint(address, self._config.disk_port)})
        for disk in self._disks:
            await self._qmp.execute("block-export-add", type="nbd", id=disk.node("export"), name=disk.node("disk"),
                                    writable=True, **{"node-name": disk.node("disk")})

    async def end_export(self) -> None:
        """Nobody writes to the images from outside any more; then the VM's own writes may go to them."""
        await self._qmp.execute("nbd-server-stop")

    async def flush(self, disk: Disk) -> None:
        """What QEMU itself still keeps of an image goes to its file. (An error of the file is seen when that is synced.)"""
        answer = await self._qmp.execute("human-monitor-command", **{"command-line": f'qemu-io {disk.node("disk")} "flush"'})
        if answer.strip():
            raise QemuError(f"disk {disk.number} cannot be flushed: {answer.strip()[:200]}")

    async def merging(self) -> bool:
        """After a failover QEMU merges the overlays into the images by a job of its own: has it still to end?"""
        overlays = {(disk.node("repl"), disk.node("active")) for disk in self._disks}
        return bool(overlays & set(await self._graph.edges()))

    # ---- the leader ---------------------------------------------------------------------------------------------
    async def copy(self, address: str, held: tuple[str, ...], name: str, progress: Progress) -> None:
        """Make the images at ``address`` nearly equal to ours, while the VM runs. ``progress(done, total)`` in bytes.

        ``held``: names of the copies that they are by now; ``name``: of the one that they become.
        """
        await self._own_overlays_gone(progress)
        await self.detach()
        await knock(address, self._config.disk_port, name)
        for disk in self._disks:
            await self._qmp.execute("blockdev-add", driver="nbd", export=disk.node("disk"),
                                    server={"type": "inet", **_endpoint(address, self._config.disk_port)},
                                    **{"node-name": disk.node("nbd")})
        await self._copy.begin(held, name)
        await self._copy.run(progress)

    async def keep_up(self) -> None:
        """After :meth:`copy`, until :meth:`attach`: go on sending what the guest writes."""
        await self._copy.keep_up()

    async def attach(self) -> None:
        """The VM stands still: send what is left, then let each write go to both images from here on."""
        await self._copy.finish()
        for disk in self._disks:
            await self._qmp.execute("blockdev-add", driver="replication", mode="primary", file=disk.node("nbd"),
                                    **{"node-name": disk.node("peer")})
            await self._qmp.execute("x-blockdev-change", parent=disk.node("top"), node=disk.node("peer"))
        await self._qmp.execute("xen-set-replication", enable=True, primary=True)

    async def peer_error(self) -> str:
        """What went wrong with a write at the secondary since :meth:`attach`; empty if nothing did.

        QEMU takes such a write for done (block/replication.c, replication_return_value), and no event tells of it.
        """
        if not self._disks:
            return ""
        state = await self._qmp.execute("query-xen-replication-status")
        return str(state.get("desc", "unknown error")) if state["error"] else ""

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
        await self._copy.abandon()
        nodes, edges = await self._graph.names(), await self._graph.edges()
        if any((disk.node("top"), disk.node("peer")) in edges for disk in self._disks):
            await self._qmp.execute("xen-set-replication", enable=False, primary=True)
        for disk in self._disks:
            child = edges.get((disk.node("top"), disk.node("peer")))
            if child:
                await self._qmp.execute("x-blockdev-change", parent=disk.node("top"), child=child)
            for kind in ("peer", "nbd"):
                if disk.node(kind) in nodes:
                    await self._qmp.execute("blockdev-del", **{"node-name": disk.node(kind)})

    async def _own_overlays_gone(self, progress: Progress) -> None:
        """What a failover began must have ended."""
        while await self.merging():
            progress(0, 1)
            await asyncio.sleep(LOOK_S)
        nodes = await self._graph.names()
        for disk in self._disks:
            for kind in ("active", "hidden"):
                if disk.node(kind) in nodes:
                    await self._qmp.execute("blockdev-del", **{"node-name": disk.node(kind)})
                    overlay_path(self._config, disk, kind).unlink(missing_ok=True)


def _endpoint(host: str, port: int) -> dict[str, str]:
    return {"host": host, "port": str(port)}
