# SPDX-License-Identifier: GPL-3.0-or-later
"""QEMU's block graph as it is at this moment, read over QMP. Names of nodes: see disks/images.py."""

from __future__ import annotations

from typing import Any

from ..config.disks import Disk
from ..config.settings import Config
from ..errors import QemuError
from .monitor import Monitor

# Marker bitmaps beside the one that notes writes. WHOLE: copy every block. LEFT: also copy the blocks set here.
WHOLE, LEFT = "plover-whole", "plover-left"


class BlockGraph:
    def __init__(self, config: Config, qmp: Monitor) -> None:
        self._qmp, self.disks = qmp, config.disk_list

    async def sizes(self) -> list[int]:
        """Bytes of each disk, as the guest sees them."""
        nodes = {node["node-name"]: node["image"]["virtual-size"] for node in await self._nodes()}
        missing = [disk.node("disk") for disk in self.disks if disk.node("disk") not in nodes]
        if missing:
            raise QemuError(f"QEMU has no node {missing[0]} in its block graph")
        return [nodes[disk.node("disk")] for disk in self.disks]

    async def names(self) -> set[str]:
        return {node["node-name"] for node in await self._nodes()}

    async def edges(self) -> dict[tuple[str, str], str]:
        """(parent, child) -> the name the parent gives it."""
        graph = await self._qmp.execute("x-debug-query-block-graph")
        names = {node["id"]: node["name"] for node in graph["nodes"]}
        if any(edge[end] not in names for edge in graph["edges"] for end in ("parent", "child")):
            raise QemuError("QEMU's block graph has an edge without a node at its end")
        return {(names[edge["parent"]], names[edge["child"]]): edge["name"] for edge in graph["edges"]}

    async def file_of(self, node: str) -> str:
        """The node below ``node``."""
        for (parent, child), name in (await self.edges()).items():
            if (parent, name) == (node, "file"):
                return child
        raise QemuError(f"QEMU has nothing below {node} in its block graph")

    async def below(self, node: str) -> set[str]:
        """The nodes directly below ``node``."""
        return {child for parent, child in await self.edges() if parent == node}

    async def view(self) -> dict[str, str | None]:
        """Each node -> the one below it that is its "file" (None: it has none)."""
        out: dict[str, str | None] = dict.fromkeys(await self.names())
        out.update({parent: child for (parent, child), name in (await self.edges()).items() if name == "file"})
        return out

    async def bitmaps(self, node: str) -> dict[str, int]:
        """Name of each bitmap of ``node`` -> bytes that are dirty in it."""
        return {
            bitmap["name"]: bitmap["count"]
            for found in await self._nodes()
            if found["node-name"] == node
            for bitmap in found.get("dirty-bitmaps", [])
            if bitmap.get("name")
        }

    async def copy_name(self, disk: Disk) -> str | None:
        """Name of the copy that the disk's bitmap belongs to."""
        return next((name for name in await self.bitmaps(disk.node("top")) if name not in (WHOLE, LEFT)), None)

    async def dirty_bytes(self, disk: Disk) -> int:
        """Bytes of the disk still to be sent."""
        bitmaps = await self.bitmaps(disk.node("top"))
        return (await self.sizes())[disk.number] if WHOLE in bitmaps else sum(bitmaps.values())

    async def jobs(self) -> dict[str, dict[str, Any]]:
        """The copies' jobs by name."""
        names = {disk.node("copy") for disk in self.disks}
        return {job["id"]: job for job in await self._qmp.execute("query-jobs") if job["id"] in names}

    async def _nodes(self) -> list[dict[str, Any]]:
        nodes: list[dict[str, Any]] = await self._qmp.execute("query-named-block-nodes", flat=True)
        return nodes
