# SPDX-License-Identifier: GPL-3.0-or-later
"""The merge of a promoted VM's overlays in a real QEMU without a guest, on a file system that is full at first."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from plover.disks.block_layer import BlockLayer
from plover.disks.images import overlay_path
from plover.errors import QemuError
from plover.replica.merge_watch import MergeWatch
from test_block_copy import MIB, SIZE_MIB, Side

WRITTEN_MIB = 16  # by the VM before its promotion: in the overlay


@pytest.fixture
def full(tmp_path):
    """A folder with room for nothing, and a function that makes room."""
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE_MIB + 8}m", "small", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> Path:
    path = folder / "filler"
    with contextlib.suppress(OSError), open(path, "wb", buffering=0) as file:
        while True:
            file.write(bytes(MIB))
    return path


class Promoted(Side):
    """A secondary's QEMU, whose disks are as after a failover. Its images are empty files."""

    def __init__(self, folder: Path, images: Path, disks: int = 1, cache: str = "writeback") -> None:
        super().__init__(folder, "secondary", disks, {"secondary": images}, cache)
        for image in self.images:
            image.write_bytes(b"")
            os.truncate(image, SIZE_MIB * MIB)

    async def fail_over(self) -> None:
        await self.start(incoming=True)
        await self.qmp.execute("cont")
        await self.qmp.execute("xen-set-replication", enable=True, primary=False)
        for n in range(len(self.images)):
            await self.write(1, WRITTEN_MIB, n)
        await self.block.end_export()

    async def promote(self) -> None:
        await self.qmp.execute("xen-set-replication", enable=False, primary=False, failover=True)

    async def merged(self, seconds: float = 10.0) -> None:
        end = time.monotonic() + seconds
        while not (now := await self.block.merge.look()).over:
            assert time.monotonic() < end, now
            await asyncio.sleep(0.02)

    async def failed(self, error: str = "disk ", seconds: float = 10.0) -> None:
        """Wait until the merge of each disk has failed with ``error``. They fail in any order."""
        end = time.monotonic() + seconds
        while (now := await self.block.merge.look()).error.count(error) < len(self.images):
            assert time.monotonic() < end and not now.over, now
            await asyncio.sleep(0.02)

    async def runs(self) -> bool:
        return (await self.qmp.execute("query-status"))["running"]

    async def check_whole(self) -> None:
        """The images have it all, and the graph is as one that was never a secondary's."""
        for disk, image in zip(self.config.disk_list, self.images):
            await self.write(50, 1, disk.number)
            await self.block.flush(disk)
            data = image.read_bytes()
            found = [n for n in range(SIZE_MIB) if data[n * MIB : (n + 1) * MIB].strip(b"\0")]
            assert found == [*range(1, 1 + WRITTEN_MIB), 50]
            assert not overlay_path(self.config, disk, "active").exists()
        nodes = await self.graph.names()
        assert not {n for n in nodes if n.startswith(("active", "hidden", "spare", "merging"))}, nodes
        assert await self.block.peer_error() == ""
        assert await self.runs()


def played(play, side: Promoted) -> None:
    async def run() -> None:
        try:
            await asyncio.wait_for(play(side), 60)
        finally:
            await side.end()

    asyncio.run(run())


def test_a_merge_that_goes_well_is_seen_to_be_over(tmp_path):
    async def play(side: Promoted) -> None:
        await side.fail_over()
        assert side.block.merge.used_bytes() >= WRITTEN_MIB * MIB
        await side.promote()
        await side.merged()
        await side.check_whole()
        assert side.block.merge.used_bytes() == 0

    played(play, Promoted(tmp_path, tmp_path))


@pytest.mark.parametrize("disks", [1, 2])
def test_a_merge_that_failed_is_told_and_begun_again(tmp_path, full, disks):
    """With two disks, both fail and both are mended."""

    async def play(side: Promoted) -> None:
        await side.fail_over()
        filler = fill(full)
        await side.promote()
        await side.failed("QEMU gave the merge up")
        await side.block.merge.again()  # the image is still full
        await side.failed("no room for the image")
        assert await side.runs()
        await side.block.merge.again()
        await side.failed("no room for the image")
        with pytest.raises(QemuError, match="not merged yet after the failover: disk 0: no room"):
            await side.block.copy("127.0.0.1", (), "0" * 32, lambda done, total: None)
        filler.unlink()
        await side.block.merge.again()
        await side.merged()
        await side.check_whole()

    subprocess.run(["mount", "-o", f"remount,size={disks * SIZE_MIB + 8}m", str(full)], check=True)
    played(play, Promoted(tmp_path, full, disks))


@pytest.mark.parametrize("done", range(9))
def test_a_daemon_that_ends_in_the_midst_of_it_is_followed_by_one_that_mends_it(tmp_path, full, done):
    """However many commands QEMU had carried out by then."""

    async def play(side: Promoted) -> None:
        await side.fail_over()
        filler = fill(full)
        await side.promote()
        await side.failed()
        filler.unlink()
        execute, left = side.qmp.execute, [done]

        async def dying(command: str, **arguments: object):
            if command in ("x-blockdev-change", "blockdev-add", "blockdev-del", "block-commit", "stop", "cont"):
                if not left[0]:
                    raise QemuError("the daemon ended")
                left[0] -= 1
            return await execute(command, **arguments)

        side.qmp.execute = dying
        with pytest.raises(QemuError, match="the daemon ended"):
            await side.block.merge.again()
        side.qmp.execute = execute
        side.block = BlockLayer(side.config, side.qmp)
        await side.block.merge.mend()
        assert not {n for n in await side.graph.names() if n.startswith("spare")}
        await side.qmp.execute("cont")
        now = await side.block.merge.look()
        if now.error:
            await side.block.merge.again()
        await side.merged()
        await side.check_whole()

    played(play, Promoted(tmp_path, full))


async def limits(side: Promoted) -> list[int]:
    """Of what the guest may write to each disk, in bytes a second; 0 = none."""
    return [device["inserted"]["bps_wr"] for device in await side.qmp.execute("query-block") if "inserted" in device]


def test_an_export_is_ended_as_often_as_it_is_asked_for(tmp_path):
    """A promotion that was refused half way is tried again."""

    async def play(side: Promoted) -> None:
        await side.fail_over()
        await side.block.end_export()
        await side.promote()
        await side.merged()
        await side.check_whole()

    played(play, Promoted(tmp_path, tmp_path))


def test_small_writes_at_random_places_count_for_the_clusters_they_take(tmp_path):
    """2 MiB of them take 32 MiB of an overlay."""

    async def play(side: Promoted) -> None:
        await side.fail_over()
        taken, counted = side.block.merge.used_bytes(), await side.block.overlay_bytes()
        places = random.Random(7).sample(range(24 * MIB // 65536, SIZE_MIB * MIB // 65536), 512)
        for place in places:
            line = f'qemu-io -d {side.config.disk_list[0].device} "aio_write -P 7 {place * 65536 + 4096} 4k"'
            await side.qmp.execute("human-monitor-command", **{"command-line": line})
        await side.write(1, 1)  # those before it are done
        taken, counted = side.block.merge.used_bytes() - taken, await side.block.overlay_bytes() - counted
        assert 32 * MIB <= taken <= counted + MIB and counted <= 40 * MIB

    played(play, Promoted(tmp_path, tmp_path))


class Daemon:
    """As much of a replica daemon as MergeWatch uses. ``told``: what its core would hear."""

    def __init__(self, side: Promoted) -> None:
        self.config, self.told, self.vm = side.config, [], SimpleNamespace(block=side.block)

    def spawn(self, work) -> None:
        self.task = asyncio.ensure_future(work)

    def answer(self, *event: object) -> None:
        self.told.append(event)

    async def over(self, vm: object) -> None:
        assert vm is self.vm
        self.told.append(("over",))

    async def lost(self, vm: object, error: Exception) -> None:
        self.told.append(("lost", str(error)))

    async def hears(self, event: str, times: int = 1) -> None:
        end = time.monotonic() + 10
        while [told[0] for told in self.told].count(event) < times:
            assert time.monotonic() < end, self.told
            await asyncio.sleep(0.02)


def test_a_daemon_tells_once_of_each_failure_and_of_the_end(tmp_path, full):
    async def play(side: Promoted) -> None:
        await side.fail_over()
        filler, daemon = fill(full), Daemon(side)
        await side.promote()
        watch = MergeWatch(daemon, daemon.over, daemon.lost)
        watch.begin(daemon.vm)
        await daemon.hears("disks_unmerged")
        await watch.again(daemon.vm)
        await daemon.hears("disks_unmerged", 2)
        await asyncio.sleep(0.5)
        assert len(daemon.told) == 2
        filler.unlink()
        await watch.again(daemon.vm)
        await daemon.hears("disks_merged")
        await daemon.task
        assert daemon.told[-2:] == [("over",), ("disks_merged",)]
        await side.check_whole()

    played(play, Promoted(tmp_path, full))


def test_a_guest_that_writes_faster_than_it_is_merged_is_slowed_down(tmp_path, full):
    """Until it is over. Its overlays are in memory."""

    async def play(side: Promoted) -> None:
        await side.fail_over()
        filler, daemon = fill(full), Daemon(side)
        daemon.config = SimpleNamespace(disk_overlay_mib=20)
        await side.promote()
        watch = MergeWatch(daemon, daemon.over, daemon.lost)
        watch.begin(daemon.vm)
        await daemon.hears("disks_unmerged")
        assert await limits(side) == [1 << 20]
        filler.unlink()
        await watch.again(daemon.vm)
        await daemon.hears("disks_merged")
        assert await limits(side) == [0]

    played(play, Promoted(tmp_path, full))
