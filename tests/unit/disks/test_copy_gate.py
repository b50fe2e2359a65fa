# SPDX-License-Identifier: GPL-3.0-or-later
"""The gate of a secondary's images: nothing is made ready before the copy that it asked for begins, and then once."""

from __future__ import annotations

import asyncio

import pytest
from plover.disks.copy_gate import CopyGate
from plover.errors import QemuError

NAME = "a" * 32


def test_all_streams_of_one_copy_wait_until_its_images_are_ready():
    begun = []

    async def begin() -> None:
        begun.append("begins")
        await asyncio.sleep(0.05)
        begun.append("ready")

    async def run() -> None:
        gate = CopyGate(NAME, begin)
        assert not gate.begun
        gone = asyncio.ensure_future(gate.take(NAME))
        others = [asyncio.ensure_future(gate.take(NAME)) for _ in range(3)]
        await asyncio.sleep(0.01)
        gone.cancel()  # one that goes away does not take the others with it
        await asyncio.gather(*others)
        assert gate.begun and begun == ["begins", "ready"]
        await gate.take(NAME)

    asyncio.run(run())
    assert begun == ["begins", "ready"]


@pytest.mark.parametrize("name", ["", "b" * 32, NAME + "x", NAME[:-1]])
def test_another_copy_begins_nothing(name):
    async def run() -> None:
        gate = CopyGate(NAME, lambda: pytest.fail("it began"))
        with pytest.raises(QemuError, match="not the copy that this host asked for"):
            await gate.take(name)
        assert not gate.begun

    asyncio.run(run())


@pytest.mark.parametrize("error", [QemuError("QMP nbd-server-start: no"), OSError(28, "No space left on device")])
def test_images_that_cannot_be_made_ready_are_refused_each_time(error):
    async def begin() -> None:
        raise error

    async def run() -> None:
        gate = CopyGate(NAME, begin)
        for _time in range(2):
            with pytest.raises(QemuError, match="its images cannot be made ready: .*(no|No space left)"):
                await gate.take(NAME)

    asyncio.run(run())


def test_a_gate_that_is_closed_lets_nobody_in_not_even_who_waits():
    async def run() -> None:
        goes_on = asyncio.Event()
        gate = CopyGate(NAME, goes_on.wait)
        waits = asyncio.ensure_future(gate.take(NAME))
        await asyncio.sleep(0)
        gate.close()
        goes_on.set()
        with pytest.raises(QemuError, match="is gone"):
            await waits
        with pytest.raises(QemuError, match="waits for no copy"):
            await gate.take(NAME)

    asyncio.run(run())
