# SPDX-License-Identifier: GPL-3.0-or-later
"""A flush of a secondary's QEMU, as at each of its stops, fails once. Two real QEMUs without a guest; the disk is well from then on."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import time
from unittest import mock

import harness
import pytest
from faulty_disk import FLUSH, Faults, build
from plover.errors import LostWritesError
from plover.qemu.process import check_flushes, environment
from plover.replica.disk_work import MISSED
from test_block_copy import Side, copied

pytestmark = [pytest.mark.usefixtures("native_library"), pytest.mark.parametrize("cache", ["none", "writeback"])]


def beside(folder, play, cache: str) -> None:
    """``play(leader, secondary, faults)``: the secondary has the leader's writes, and its own VM runs."""

    async def run() -> None:
        async with contextlib.AsyncExitStack() as stack:
            leader, secondary = (Side(folder, member, 1, cache=cache) for member in ("primary", "secondary"))
            faults, library = Faults(folder / "faults", secondary.images[0]), build(folder / "disk_faults.so")
            await leader.start(incoming=False)
            stack.push_async_callback(leader.end)
            with mock.patch.dict(os.environ, {"PLOVER_NATIVE_DIR": str(harness.ROOT / "native/build")}):
                ours = environment(secondary.config).get("LD_PRELOAD", "")
            below = {"LD_PRELOAD": f"{ours} {library}", "PLOVER_TEST_DISK_FAULTS": str(folder / "faults")}
            with mock.patch.dict(os.environ, below):
                await secondary.start(incoming=True)
            stack.push_async_callback(secondary.end)
            check_flushes(secondary.config, secondary.process.pid)
            await secondary.qmp.execute("xen-set-replication", enable=True, primary=False)
            await copied(leader, (), "first")
            for side in (leader, secondary):
                await side.qmp.execute("cont")
            await asyncio.wait_for(play(leader, secondary, faults), 60)

    asyncio.run(run())


async def stops_badly(leader: Side, secondary: Side, faults: Faults) -> None:
    """What the leader's guest wrote, and has not flushed, is lost at the secondary."""
    await leader.write(10, 1)
    faults.order(FLUSH, 1, errno.EIO, for_ever=False)
    await secondary.qmp.execute("stop")
    assert faults.failed == 1


def test_the_leader_hears_of_it_at_its_next_flush(tmp_path, cache):
    """Before it tells its guest that what the guest wrote is safe."""

    async def play(leader: Side, secondary: Side, faults: Faults) -> None:
        told: list[dict] = []
        watching = asyncio.ensure_future(leader.qmp.watch((MISSED,), lambda name, data: told.append(data)))
        await stops_badly(leader, secondary, faults)
        await leader.qmp.execute("stop")  # QEMU flushes as a guest does, through the guest's device
        await asyncio.sleep(0.5)
        watching.cancel()
        assert [(each["node-name"], each["type"]) for each in told] == [("peer0", "flush")]

    beside(tmp_path, play, cache)


def test_no_merge_after_a_failover_ends_well(tmp_path, cache):
    async def play(leader: Side, secondary: Side, faults: Faults) -> None:
        await stops_badly(leader, secondary, faults)
        leader.process.kill()
        await secondary.block.end_export()
        await secondary.qmp.execute("xen-set-replication", enable=False, primary=False, failover=True)
        await secondary.qmp.execute("cont")
        end, merge = time.monotonic() + 10, secondary.block.merge
        while not (now := await merge.look()).error:
            assert time.monotonic() < end and not now.over, now
            await asyncio.sleep(0.02)
        await merge.again()
        with pytest.raises(LostWritesError, match="all was written to the image, but it could not be flushed"):
            while time.monotonic() < end:
                assert not (await merge.look()).over
                await asyncio.sleep(0.02)

    beside(tmp_path, play, cache)
