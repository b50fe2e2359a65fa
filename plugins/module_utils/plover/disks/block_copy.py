# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies a leader's disks to a new secondary while the VM runs, in rounds: each sends the writes of the one before.

A round reads from a snapshot (QEMU's docs/interop/live-block-operations.rst and its fleecing: copy-before-write with
on-cbw-error=break-snapshot), never from the guest's own node: a backup of that node would make the guest's writes wait for
the secondary, and fail with it. This way a failure costs the round at most. Old data of blocks that the guest overwrites
meanwhile go to ``fleeceN``.

A bitmap on the disk's top node, named after the secondary's copy, has every block that may differ there. If a round ends
early, its rest goes back into that bitmap, so a copy that broke off is resumed by name.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from ..config.disks import Disk
from ..config.settings import Config
from ..errors import QemuError
from ..host import qemu_user
from .block_graph import LEFT, WHOLE, BlockGraph
from .images import make_overlay, overlay_path
from .monitor import Monitor

log = logging.getLogger("plover")
GRANULARITY_BYTES = 65_536
FEW_BYTES = 16 << 20  # sent while the VM stands still: a fraction of a second on any link worth the name
LOOK_S, KEEP_UP_S = 0.02, 0.2
REST_S_MAX = END_S_MAX = 10.0
Progress = Callable[[int, int], None]
Job = dict[str, Any]  # of query-jobs


class BlockCopy:
    """One for each QEMU."""

    def __init__(self, config: Config, qmp: Monitor, graph: BlockGraph) -> None:
        self._config, self._qmp, self._graph = config, qmp, graph
        self._round, self._ending = asyncio.Lock(), False
        self._running: set[int] = set()  # disks whose round's job has begun: the bitmap of its snapshot has the rest

    async def begin(self, held: tuple[str, ...], name: str) -> None:
        """``held``: names of the copies that the secondary has; ``name``: the copy it will have."""
        self._ending = False
        known = [await self._graph.copy_name(disk) for disk in self._graph.disks]
        resumed = all(found in held for found in known)
        for disk, found in zip(self._graph.disks, known):
            top = disk.node("top")
            if not resumed:
                for old in await self._graph.bitmaps(top):
                    await self._remove_bitmap(top, old)
                await self._transaction(_add(top, WHOLE, disabled=True), _add(top, name))
            elif found is not None and found != name:
                await self._transaction(_add(top, name), _merge(top, name, top, found))
                await self._remove_bitmap(top, found)
        dirty = sum([await self._graph.dirty_bytes(disk) for disk in self._graph.disks])
        what = f"what changed since copy {known[0]}" if resumed else "all"
        log.info("disks: sending %s, %.1f MiB", what, dirty / (1 << 20))

    async def run(self, progress: Progress) -> None:
        """Rounds until little is left. ``progress(done, total)`` in bytes."""
        sent, warn_at = 0, 0
        while True:
            dirty = {disk: await self._graph.dirty_bytes(disk) for disk in self._graph.disks}
            left = sum(dirty.values())
            if left <= FEW_BYTES and not await self._any_whole():
                return
            warn_at = warn_at or 3 * left
            if sent > warn_at:
                warn_at = 2 * sent
                log.warning(
                    "disks: %d MiB were sent, and %d MiB are left: the guest writes about as fast; raise "
                    "disk_copy_mib_per_s (now %d, 0 = no limit) or the link's speed, or let it write less",
                    sent >> 20,
                    left >> 20,
                    self._config.disk_copy_mib_per_s,
                )
            most = max(dirty, key=lambda disk: dirty[disk])

            def of_all(done: int, before: int = sent, total: int = sent + left) -> None:
                progress(before + done, total)

            sent += await self._one_round(most, of_all)

    async def keep_up(self) -> None:
        """More rounds while memory is copied, until :meth:`finish`."""
        while not self._ending:
            await asyncio.sleep(KEEP_UP_S)
            for disk in self._graph.disks:
                if not self._ending and await self._graph.dirty_bytes(disk) > FEW_BYTES:
                    await self._one_round(disk, lambda done: None)

    async def finish(self) -> None:
        """The VM is stopped: send the rest. The bitmaps note writes from now on."""
        self._ending = True
        async with self._round:
            if await self._any_whole():
                raise QemuError("the disks are not copied yet")
            for disk in self._graph.disks:
                await self._backup(disk, disk.node("top"), "bitmap", await self._known_copy(disk), "on-success")
                state = await self._job_ended(disk, lambda job: False, REST_S_MAX)
                if state.get("error"):
                    raise QemuError(f"copying the rest of disk {disk.number} to the secondary: {state['error']}")

    async def abandon(self) -> None:
        """End all jobs and put the graph in order; blocks not copied are in the bitmaps."""
        self._ending = True
        for name, job in (await self._graph.jobs()).items():
            await self._end_job(name, job)
        for disk in self._graph.disks:
            await self._round_over(disk)

    # ---- a round ------------------------------------------------------------------------------------------------
    async def _one_round(self, disk: Disk, progress: Callable[[int], None]) -> int:
        """Returns how many bytes were sent."""
        async with self._round:
            await self._take_snapshot(disk)
            whole = WHOLE in await self._graph.bitmaps(disk.node("top"))
            await self._backup(
                disk, disk.node("snap"), "full" if whole else "bitmap", LEFT, "always", speed=self._config.disk_copy_mib_per_s << 20
            )
            self._running.add(disk.number)

            def enough(job: Job) -> bool:
                progress(job["current-progress"])
                return self._ending or self._fleece_is_full(disk)

            state = await self._job_ended(disk, enough)
            await self._round_over(disk)
            sent: int = state["current-progress"]
            progress(sent)
            if state.get("error") and not state["given up"]:
                raise QemuError(f"copying disk {disk.number} to the secondary: {state['error']}")
            return sent

    async def _take_snapshot(self, disk: Disk) -> None:
        """``snapN`` is the disk as of now; its bitmap has the blocks to send, and the disk's own bitmap begins anew."""
        top, image = disk.node("top"), disk.node("image")
        below, path = await self._graph.file_of(image), overlay_path(self._config, disk, "fleece")
        size = (await self._graph.sizes())[disk.number]
        await asyncio.to_thread(make_overlay, self._config, path, size, qemu_user.of_process(self._qmp.pid))
        whole = WHOLE in await self._graph.bitmaps(top)
        if not whole:
            name = await self._known_copy(disk)
            # Before the snapshot: writes in between are in the bitmap for the next round.
            await self._transaction(_add(top, LEFT, disabled=True), _merge(top, LEFT, top, name), _clear(top, name))
        cache = {"direct": False, "no-flush": True}
        await self._qmp.execute(
            "blockdev-add",
            driver="qcow2",
            cache=cache,
            backing=None,
            file={"driver": "file", "filename": str(path), "cache": cache},
            **{"node-name": disk.node("fleece")},
        )
        only = {} if whole else {"bitmap": {"node": top, "name": LEFT}}
        await self._qmp.execute(
            "blockdev-add",
            driver="copy-before-write",
            file=below,
            target=disk.node("fleece"),
            **only,
            **{"node-name": disk.node("cbw"), "on-cbw-error": "break-snapshot"},
        )
        await self._reopen(image, disk.node("cbw"))
        await self._qmp.execute("blockdev-add", driver="snapshot-access", file=disk.node("cbw"), **{"node-name": disk.node("snap")})
        await self._transaction(_add(disk.node("snap"), LEFT))
        if not whole:
            await self._transaction(_merge(disk.node("snap"), LEFT, top, LEFT))

    async def _round_over(self, disk: Disk) -> None:
        """Undo a round, however far it came: its rest into the disk's bitmap, its nodes out of the graph."""
        top, snap, cbw = disk.node("top"), disk.node("snap"), disk.node("cbw")
        marks, known = await self._graph.bitmaps(top), await self._graph.copy_name(disk)
        nodes = await self._graph.names()
        if known and disk.number in self._running and LEFT in await self._graph.bitmaps(snap):
            await self._transaction(_merge(top, known, snap, LEFT))
            await self._remove_bitmap(top, WHOLE if WHOLE in marks else LEFT)
        elif known and LEFT in marks:
            await self._transaction(_merge(top, known, top, LEFT))
        self._running.discard(disk.number)
        if snap in nodes:
            await self._qmp.execute("blockdev-del", **{"node-name": snap})
        if cbw in nodes:
            await self._reopen(disk.node("image"), await self._graph.file_of(cbw))
            await self._qmp.execute("blockdev-del", **{"node-name": cbw})
        if LEFT in await self._graph.bitmaps(top):
            await self._remove_bitmap(top, LEFT)
        if disk.node("fleece") in nodes:
            await self._qmp.execute("blockdev-del", **{"node-name": disk.node("fleece")})
        overlay_path(self._config, disk, "fleece").unlink(missing_ok=True)

    async def _known_copy(self, disk: Disk) -> str:
        name = await self._graph.copy_name(disk)
        if name is None:
            raise QemuError(f"disk {disk.number} has no bitmap of the secondary's copy any more")
        return name

    def _fleece_is_full(self, disk: Disk) -> bool:
        """Then the round ends, as the guest's memory may be on the same file system."""
        used_bytes = overlay_path(self._config, disk, "fleece").stat().st_blocks * 512
        limit_bytes: int = self._config.disk_overlay_mib << 19
        return used_bytes > limit_bytes // len(self._graph.disks)

    async def _any_whole(self) -> bool:
        for disk in self._graph.disks:
            if WHOLE in await self._graph.bitmaps(disk.node("top")):
                return True
        return False

    # ---- jobs ---------------------------------------------------------------------------------------------------
    async def _backup(self, disk: Disk, source: str, sync: str, bitmap: str, mode: str, speed: int = 0) -> None:
        await self._qmp.execute(
            "blockdev-backup",
            device=source,
            target=disk.node("nbd"),
            sync=sync,
            bitmap=bitmap,
            **{"job-id": disk.node("copy"), "bitmap-mode": mode, "auto-dismiss": False},
            speed=speed,
        )

    async def _job_ended(self, disk: Disk, enough: Callable[[Job], bool], seconds_max: float = 0.0) -> Job:
        """The job's last state. It is given up once ``enough(job)``, or after ``seconds_max``."""
        name, loop, given_up = disk.node("copy"), asyncio.get_running_loop(), False
        end = loop.time() + (seconds_max or float("inf"))
        while True:
            job = (await self._graph.jobs()).get(name)
            if job is None:
                raise QemuError(f"the copy of disk {disk.number} was given up")
            if job["status"] == "concluded":
                await self._qmp.execute("job-dismiss", id=name)
                return {**job, "given up": given_up}
            if loop.time() > end:
                raise QemuError(f"disk {disk.number}: its copy does not end")
            if not given_up and enough(job):
                given_up, end = True, loop.time() + END_S_MAX
                await self._qmp.execute("job-cancel", id=name)
            await asyncio.sleep(LOOK_S if not seconds_max else LOOK_S / 10)

    async def _end_job(self, name: str, job: Job) -> None:
        disk = next(disk for disk in self._graph.disks if disk.node("copy") == name)
        try:
            if job["status"] != "concluded":
                await self._qmp.execute("job-cancel", id=name)
            await self._job_ended(disk, lambda job: False, END_S_MAX)
        except QemuError:
            if name in await self._graph.jobs():
                raise  # otherwise it ended by itself just now

    # ---- commands -------------------------------------------------------------------------------------------------
    async def _transaction(self, *actions: dict[str, Any]) -> None:
        await self._qmp.execute("transaction", actions=list(actions))

    async def _remove_bitmap(self, node: str, name: str) -> None:
        await self._qmp.execute("block-dirty-bitmap-remove", node=node, name=name)

    async def _reopen(self, image: str, below: str) -> None:
        await self._qmp.execute("blockdev-reopen", options=[{"driver": "raw", "node-name": image, "file": below}])


def _add(node: str, name: str, disabled: bool = False) -> dict[str, Any]:
    return {"type": "block-dirty-bitmap-add", "data": {"node": node, "name": name, "granularity": GRANULARITY_BYTES, "disabled": disabled}}


def _merge(node: str, target: str, other: str, name: str) -> dict[str, Any]:
    return {"type": "block-dirty-bitmap-merge", "data": {"node": node, "target": target, "bitmaps": [{"node": other, "name": name}]}}


def _clear(node: str, name: str) -> dict[str, Any]:
    return {"type": "block-dirty-bitmap-clear", "data": {"node": node, "name": name}}
