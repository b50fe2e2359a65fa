# SPDX-License-Identifier: GPL-3.0-or-later
"""The block layer of one running QEMU, over QMP: export, copy to a new secondary, replicate, let go.

Names of nodes: see disks/images.py. The bitmap of a copy (disks/block_copy.py) notes every later write of the guest. A
secondary that comes back with that copy, however it ended, differs in those blocks at most, and gets only them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from ..config.disks import Disk
from ..config.settings import Config
from ..errors import LostWritesError, QemuError
from .block_copy import BlockCopy, Progress
from .block_graph import BlockGraph
from .block_merge import BlockMerge
from .monitor import Monitor

Begin = Callable[[str], Awaitable[dict[str, Any]]]
CLUSTER_BYTES = 65_536  # of an overlay: a small write takes a whole one, as QEMU copies the rest of the cluster


class BlockLayer:
    def __init__(self, config: Config, qmp: Monitor) -> None:
        self._config, self._qmp = config, qmp
        self._disks = config.disk_list
        self._graph = BlockGraph(config, qmp)
        self._copy = BlockCopy(config, qmp, self._graph)
        self.merge = BlockMerge(config, qmp, self._graph)
        # While the secondary's image is attached, QEMU reports a write as done to the guest even if only one image took it.
        self.hides_errors = False

    async def sizes(self) -> list[int]:
        """Bytes of each disk, as the guest sees them."""
        return await self._graph.sizes()

    async def overlay_bytes(self) -> int:
        """Upper bound of the overlay space that the guest's writes since QEMU's start need: each in a place of its own."""
        stats = [device["stats"] for device in await self._qmp.execute("query-blockstats")]
        return sum(each["wr_bytes"] + CLUSTER_BYTES * each["wr_operations"] for each in stats)

    # ---- the secondary ----------------------------------------------------------------------------------------------
    async def export(self, address: dict[str, object]) -> None:
        """Take the leader's writes to the images, at ``address``: a UNIX socket (disks/sockets.py)."""
        await self._qmp.execute("nbd-server-start", **{"max-connections": 0}, addr=address)
        for disk in self._disks:
            await self._qmp.execute(
                "block-export-add",
                type="nbd",
                id=disk.node("export"),
                name=disk.node("disk"),
                writable=True,
                **{"node-name": disk.node("disk")},
            )

    async def end_export(self) -> None:
        """Take no more writes from outside, so that the VM's own may go to the images. May be called again."""
        try:
            await self._qmp.execute("nbd-server-stop")
        except QemuError:
            if await self._qmp.execute("query-block-exports"):
                raise  # otherwise it was stopped before: there is no server without an export (see export)

    async def flush(self, disk: Disk) -> None:
        """Write QEMU's own caches of an image to its file. (A later sync of the file shows errors of the file.)"""
        answer = await self._qmp.execute("human-monitor-command", **{"command-line": f'qemu-io {disk.node("disk")} "flush"'})
        if answer.strip():
            raise LostWritesError(f"disk {disk.number} cannot be flushed: {answer.strip()[:200]}")

    # ---- the leader ---------------------------------------------------------------------------------------------
    async def copy(self, begin: Begin, held: tuple[str, ...], name: str, progress: Progress) -> None:
        """Make the secondary's images nearly equal to ours, while the VM runs. ``progress(done, total)`` in bytes.

        ``begin(name)``: the secondary takes our writes from now on, at the address returned. ``held``: names of the copies that
        those images are now; ``name``: the copy that they become.
        """
        merge = await self.merge.look()
        if not merge.over:
            raise QemuError("this host's disks are not merged yet after the failover: " + (merge.error or "that goes on"))
        await self.detach()
        server = await begin(name)
        for disk in self._disks:
            await self._qmp.execute(
                "blockdev-add",
                driver="nbd",
                export=disk.node("disk"),
                server=server,
                **{"node-name": disk.node("nbd")},
            )
        await self._copy.begin(held, name)
        await self._copy.run(progress)

    async def keep_up(self) -> None:
        """After :meth:`copy`, until :meth:`attach`: go on sending the guest's writes."""
        await self._copy.keep_up()

    async def attach(self) -> None:
        """The VM is stopped: send the rest; from here on each write goes to both images."""
        await self._copy.finish()
        self.hides_errors = True
        for disk in self._disks:
            await self._qmp.execute(
                "blockdev-add", driver="replication", mode="primary", file=disk.node("nbd"), **{"node-name": disk.node("peer")}
            )
            await self._qmp.execute("x-blockdev-change", parent=disk.node("top"), node=disk.node("peer"))
        await self._qmp.execute("xen-set-replication", enable=True, primary=True)

    async def peer_error(self) -> str:
        """The error of a write at the secondary since :meth:`attach`; empty if there was none.

        QEMU treats such a write as done (block/replication.c, replication_return_value), and no event reports it.
        """
        if not self._disks:
            return ""
        state = await self._qmp.execute("query-xen-replication-status")
        return str(state.get("desc", "unknown error")) if state["error"] else ""

    async def cut(self) -> None:
        """Cut the connections to the secondary. Out of band: QEMU's main loop may wait for a secondary that does not answer."""
        if not self._disks:
            return
        for instance in await self._qmp.execute_out_of_band("query-yank"):
            if instance.get("type") == "block-node":
                await self._qmp.execute_out_of_band("yank", instances=[instance])

    async def detach(self) -> None:
        """Write to our own images alone again. May be called again."""
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
        self.hides_errors = False
