# SPDX-License-Identifier: GPL-3.0-or-later
"""The merge after a failover in a real QEMU without a guest: its image fails a write or a flush, once."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path
from unittest import mock

import pytest
from faulty_disk import FLUSH, WRITE, Faults, build
from plover.replica.disk_work import MISSED
from plover.replica.merge_watch import MergeWatch
from test_block_merge import Daemon, Promoted, played


class Failing(Promoted):
    def __init__(self, folder: Path, cache: str) -> None:
        super().__init__(folder, folder, cache=cache)
        self._orders, self._library = folder / "faults", build(folder / "disk_faults.so")
        self.faults = Faults(self._orders, self.images[0])

    async def start(self, incoming: bool) -> None:
        with mock.patch.dict(os.environ, {"LD_PRELOAD": str(self._library), "PLOVER_TEST_DISK_FAULTS": str(self._orders)}):
            await super().start(incoming)

    async def fails_to_merge(self) -> Daemon:
        """QEMU's own merge has found no room; ours has not begun."""
        await self.fail_over()
        self.faults.order(WRITE, 1, errno.ENOSPC, for_ever=False)
        await self.promote()
        daemon = Daemon(self)
        self.watch = MergeWatch(daemon, daemon.over, daemon.lost)
        self.watch.begin(daemon.vm)
        await daemon.hears("disks_unmerged")
        return daemon


@pytest.mark.parametrize("cache", ["none", "writeback"])
def test_a_merge_that_could_not_flush_the_image_once_does_not_end_well(tmp_path, cache):
    """QEMU would flush again, and with "none" that succeeds."""

    async def play(side: Failing) -> None:
        daemon = await side.fails_to_merge()
        side.faults.order(FLUSH, 2, errno.ENOSPC, for_ever=False)  # the first is of the stop, in which the job is begun
        await side.watch.again(daemon.vm)
        await asyncio.wait([daemon.task], timeout=5)
        assert side.faults.failed and daemon.told[-1] == ("lost", "disk 0: all was written to the image, but it could not be flushed")
        assert await side.runs()

    played(play, Failing(tmp_path, cache))


@pytest.mark.parametrize("cache", ["none", "writeback"])
def test_a_merge_whose_write_found_no_room_goes_on_once_there_is_some(tmp_path, cache):
    async def play(side: Failing) -> None:
        daemon = await side.fails_to_merge()
        side.faults.order(WRITE, 2, errno.ENOSPC, for_ever=False)
        await side.watch.again(daemon.vm)
        await daemon.hears("disks_unmerged", 2)
        await side.watch.again(daemon.vm)
        await daemon.hears("disks_merged")
        assert not [told for told in daemon.told if told[0] == "lost"]
        await side.check_whole()

    played(play, Failing(tmp_path, cache))


def test_a_job_that_stands_still_at_its_end_for_another_reason_goes_on(tmp_path):
    """QEMU lets its jobs do so for a moment, whenever it drains a disk."""

    async def play(side: Failing) -> None:
        await side.fails_to_merge()
        await side.block.merge.again()
        jobs: list = []
        while not jobs or jobs[0]["status"] != "ready":
            jobs = await side.qmp.execute("query-block-jobs")
            await asyncio.sleep(0)
        standing = {**jobs[0], "status": "standby"}
        assert standing["offset"] == standing["len"] > 0
        with mock.patch.object(side.block.merge, "_jobs", mock.AsyncMock(return_value={"merge0": standing})):
            await side.block.merge.look()
        await side.merged()
        await side.check_whole()

    played(play, Failing(tmp_path, "none"))


def test_qemu_tells_of_a_flush_of_its_own_that_failed_at_a_stop(tmp_path):
    """The daemon marks the image for that, where QEMU forgets it."""

    async def play(side: Failing) -> None:
        await side.start(incoming=False)
        told: list[dict] = []
        watching = asyncio.ensure_future(side.qmp.watch((MISSED,), lambda name, data: told.append(data)))
        await side.qmp.execute("cont")
        await side.write(1, 1)
        side.faults.order(FLUSH, 1, errno.EIO, for_ever=False)
        await side.qmp.execute("stop")
        for _time in range(50):
            await asyncio.sleep(0.1)
            if told:
                break
        watching.cancel()
        assert [(each["node-name"], each["type"]) for each in told] == [("image0", "flush")]
        await side.qmp.execute("cont")
        await side.write(1, 1)
        await side.qmp.execute("stop")
        await asyncio.sleep(1.5)
        assert len(told) == 1

    played(play, Failing(tmp_path, "none"))
