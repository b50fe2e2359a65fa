# SPDX-License-Identifier: GPL-3.0-or-later
"""What comes alone is read at once, what comes in a row in turns that lie apart; nothing is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time

import pytest
from plover.dataplane.spaced_reader import SpacedReader

SPACE_S = 0.02


class Turns:
    """Reads one end of a pair, and notes when."""

    def __init__(self, closes_after: int = 0) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.ours.setblocking(False)
        self.at: list[float] = []
        self.got = b""
        self._closes_after = closes_after
        self.reader = SpacedReader(asyncio.get_running_loop(), self.ours.fileno(), self.read, SPACE_S)

    def read(self) -> bool:
        self.at.append(time.monotonic())
        came = b""
        with contextlib.suppress(BlockingIOError):
            came = self.ours.recv(1 << 16)
            if not came:
                self.reader.close()
        self.got += came
        if len(self.at) == self._closes_after:
            self.reader.close()
        return bool(came)

    async def until(self, text: bytes) -> None:
        end = time.monotonic() + 5
        while self.got != text:
            assert time.monotonic() < end, self.got
            await asyncio.sleep(0.001)


@pytest.fixture
def turns():
    made = []

    def make(**how) -> Turns:
        made.append(Turns(**how))
        return made[-1]

    yield make
    for one in made:
        one.reader.close()
        one.ours.close()
        one.theirs.close()


def test_what_comes_alone_is_read_in_one_turn(turns):
    async def run():
        one = turns()
        for n in range(3):
            await asyncio.sleep(3 * SPACE_S)
            one.theirs.send(b"%d" % n)
            await one.until(b"012"[: n + 1])
        assert len(one.at) == 3  # no turn finds nothing

    asyncio.run(run())


def test_what_comes_in_a_row_is_read_in_turns_that_lie_apart(turns):
    async def run():
        one, sent = turns(), b""
        for n in range(100):
            one.theirs.send(b"%02d" % n)
            sent += b"%02d" % n
            await asyncio.sleep(0.001)
        await one.until(sent)
        await asyncio.sleep(4 * SPACE_S)  # one turn more finds nothing; then it waits for the next
        gaps = [later - earlier for earlier, later in zip(one.at, one.at[1:])]
        assert min(gaps) > 0.99 * SPACE_S
        assert len(one.at) <= (one.at[-1] - one.at[0]) / SPACE_S + 2
        one.theirs.send(b"!")
        await one.until(sent + b"!")

    asyncio.run(run())


def test_an_end_in_a_pause_is_seen(turns):
    async def run():
        one = turns()
        for byte in (b"a", b"b"):  # the second begins a pause
            one.theirs.send(byte)
            await asyncio.sleep(0.002)
        one.theirs.close()
        await one.until(b"ab")
        end = time.monotonic() + 5
        while not one.reader._gate.closed:
            assert time.monotonic() < end
            await asyncio.sleep(0.001)

    asyncio.run(run())


@pytest.mark.parametrize("turn", [1, 2])
def test_it_may_be_closed_by_what_it_calls(turns, turn):
    async def run():
        one = turns(closes_after=turn)
        for byte in (b"a", b"b", b"c"):
            one.theirs.send(byte)
            await asyncio.sleep(0.002)
        await asyncio.sleep(3 * SPACE_S)
        assert len(one.at) == turn

    asyncio.run(run())
