# SPDX-License-Identifier: GPL-3.0-or-later
"""The port of earlier versions: nothing is made ready for a copy before the leader begins one, whoever else connects. From then on
its connections are our QEMU's, which has no network itself."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest
from plover.disks.copy_gate import CopyGate
from plover.errors import QemuError
from plover.links import old_port
from plover.links.old_port import GREETING, NBD_GREETING, OldPort, dial, knock
from ports import free_port

NAME = "a" * 32
HOST = "127.0.0.1"


def played(play, error: Exception | None = None, seconds: float = 0.0) -> list[str]:
    """What a gate did while ``play(port)`` went on."""
    done, unexpected = [], []

    async def run() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: unexpected.append(context))

        async def begin() -> None:
            done.append("begins")
            await asyncio.sleep(seconds)
            if error:
                raise error
            done.append("ready")

        async def carry(end) -> None:
            done.append("carries")
            end.transport.write(NBD_GREETING)

        port, old = free_port(), OldPort(CopyGate(NAME, begin), carry, asyncio.ensure_future)
        await old.open(HOST, port)
        await play(port)
        await asyncio.sleep(0.05)
        old.close()
        await asyncio.sleep(0)

    asyncio.run(run())
    assert unexpected == []
    return done


def test_a_copy_begins_when_the_leader_knocks_and_is_let_in_when_all_is_ready():
    async def play(port: int) -> None:
        began = asyncio.get_running_loop().time()
        await knock(HOST, port, NAME)
        assert asyncio.get_running_loop().time() - began > 0.1
        end = await dial(HOST, port)
        await asyncio.sleep(0.05)
        assert end.held_bytes == len(NBD_GREETING), "nothing of ours comes before what QEMU says"
        end.abort()

    assert played(play, seconds=0.1) == ["begins", "ready", "carries"]


def test_who_comes_while_the_images_are_made_ready_is_not_carried_yet():
    async def play(port: int) -> None:
        first = asyncio.ensure_future(knock(HOST, port, NAME))
        await asyncio.sleep(0.05)
        with pytest.raises(QemuError, match="does not make its disks ready|no copy can begin"):
            await knock(HOST, port, NAME)
        await first

    assert played(play, seconds=0.2) == ["begins", "ready"]


def test_who_knocked_and_waits_is_closed_with_the_port():
    async def run() -> None:
        port, old = free_port(), OldPort(CopyGate(NAME, lambda: None), lambda end: None, asyncio.ensure_future)
        await old.open(HOST, port)
        reader, writer = await asyncio.open_connection(HOST, port)
        await reader.readexactly(len(GREETING))
        old.close()
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(1), 2.0) == b""
        writer.close()
        with pytest.raises(QemuError, match="its NBD server cannot be reached"):
            await dial(HOST, port)

    asyncio.run(run())


@pytest.mark.parametrize("said", [b"b" * 32 + b"\n", b"x" * 10_000, NAME.encode() + b"x\n", b"\n", b"\0\0\0\3IHAVEOPT" + b"\0" * 9])
def test_who_does_not_know_the_copys_name_begins_nothing(said):
    async def play(port: int) -> None:
        reader, writer = await asyncio.open_connection(HOST, port)
        with contextlib.suppress(OSError):
            writer.write(said)
            writer.write_eof()
            assert await reader.read(100) in (GREETING, b"")
        writer.close()

    assert played(play) == []


def test_many_that_say_nothing_do_not_keep_the_leader_out():
    async def play(port: int) -> None:
        idle = [await asyncio.open_connection(HOST, port) for _ in range(old_port.CLIENTS_MAX - 1)]
        await knock(HOST, port, NAME)
        for _reader, writer in idle:
            writer.close()

    assert played(play) == ["begins", "ready"]


def test_a_leader_of_an_earlier_version_finds_it_ready_when_it_tries_again():
    """Its QEMU is an NBD client, which says nothing to who does not greet as NBD servers do."""

    async def play(port: int) -> None:
        reader, writer = await asyncio.open_connection(HOST, port)
        assert await reader.readexactly(8) != NBD_GREETING
        writer.close()
        await asyncio.sleep(0.1)

    assert played(play) == ["begins", "ready"]


def test_a_secondary_of_an_earlier_version_is_ready_at_once():
    async def run() -> None:
        async def nbd(reader, writer) -> None:
            writer.write(NBD_GREETING + b"IHAVEOPT\0\3")
            await reader.read(4)
            writer.close()

        async with await asyncio.start_server(nbd, HOST, 0) as server:
            await knock(HOST, server.sockets[0].getsockname()[1], NAME)

    asyncio.run(run())


@pytest.mark.parametrize("error", [QemuError("QMP nbd-server-start: no"), OSError(28, "No space left on device")])
def test_a_secondary_that_cannot_take_the_copy_says_no(error):
    async def play(port: int) -> None:
        for _turn in range(2):
            with pytest.raises(QemuError, match=f"at {HOST} does not make its disks ready for a copy; its log says why"):
                await knock(HOST, port, NAME)

    assert played(play, error) == ["begins"]


def test_something_else_at_the_port_is_told():
    async def run(greeting: bytes) -> None:
        async def other(reader, writer) -> None:
            writer.write(greeting)
            writer.close()

        async with await asyncio.start_server(other, HOST, 0) as server:
            await knock(HOST, server.sockets[0].getsockname()[1], NAME)

    with pytest.raises(QemuError, match="something else answers there"):
        asyncio.run(run(b"SSH-2.0-OpenSSH\r\n"))
    with pytest.raises(QemuError, match="no copy can begin there"):
        asyncio.run(run(b"SSH"))


def test_a_secondary_that_does_not_answer_is_not_waited_for_long(monkeypatch):
    monkeypatch.setattr(old_port, "KNOCK_S_MAX", 0.2)

    async def run() -> None:
        async def silent(reader, writer) -> None:
            await asyncio.sleep(0.5)
            writer.close()

        async with await asyncio.start_server(silent, HOST, 0) as server:
            await knock(HOST, server.sockets[0].getsockname()[1], NAME)

    with pytest.raises(QemuError, match="no answer within"):
        asyncio.run(run())


def test_a_port_that_is_taken_is_told():
    async def run() -> None:
        with socket.create_server((HOST, 0)) as taken, pytest.raises(QemuError, match="disk_port: cannot listen at"):
            await OldPort(CopyGate(NAME, lambda: None), lambda end: None, asyncio.ensure_future).open(HOST, taken.getsockname()[1])

    asyncio.run(run())
