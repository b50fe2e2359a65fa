# SPDX-License-Identifier: GPL-3.0-or-later
"""The streams of the disks between two real members on loopback: what arrives, and how they end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket

import pytest
import stream_pair
from plover.links import relay, streams
from plover.native import couple
from plover.protocol import wire
from stream_pair import Pair, echo, pair
from test_peers import until

MIB = 1 << 20


@pytest.fixture(autouse=True, params=["plain", "plain relay", "keyed", "tls relay"])
def way(request, monkeypatch) -> str:
    """By a thread of the native library, or through this process; "tls relay" is beside a member of an earlier version, too."""
    monkeypatch.setattr(relay, "NATIVE", request.param in ("plain", "keyed"))
    monkeypatch.setattr(stream_pair, "TLS", request.param in ("keyed", "tls relay"))
    monkeypatch.setattr(stream_pair, "KEYED", request.param == "keyed")
    monkeypatch.setattr(couple, "CLOSING_S_MAX", 0.2)
    return request.param


@pytest.mark.parametrize("secret", [True, False])
def test_each_disk_has_a_stream_and_every_byte_arrives(tmp_path, secret):
    more = {}
    if secret:
        (tmp_path / "secret").write_text("0123456789abcdef" * 4)
        (tmp_path / "secret").chmod(0o600)
        more["secret_file"] = str(tmp_path / "secret")

    async def one(reader, writer, mark: bytes) -> None:
        data = os.urandom(4 * MIB)
        writer.write(mark + data)
        got = asyncio.ensure_future(reader.readexactly(len(data) + 1))
        await writer.drain()
        assert await got == mark + data
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()

    async def run() -> None:
        async with pair(tmp_path, echo, disks=3, **more) as both:
            await both.offer()
            assert both.secondary.streams.describe() == {"open": 3, "refused": 0, "last": ""}
            clients = [await both.connect() for _ in range(3)]
            await until(lambda: not both.leader.path.exists())  # nobody else gets in
            await asyncio.gather(*(one(*client, bytes([n])) for n, client in enumerate(clients)))
            await until(lambda: both.leader.streams.describe()["open"] == both.secondary.streams.describe()["open"] == 0)

    asyncio.run(run())


def test_the_server_may_speak_first(tmp_path):
    """As NBD's does: its words may come with the answer, before QEMU has connected."""

    async def serve(reader, writer) -> None:
        writer.write(b"NBDMAGIC" * 1000)
        await reader.read(1)

    async def run() -> None:
        async with pair(tmp_path, serve) as both:
            await both.offer()
            await asyncio.sleep(0.05)
            reader, writer = await both.connect()
            assert await reader.readexactly(8000) == b"NBDMAGIC" * 1000
            writer.close()

    asyncio.run(run())


def test_a_side_that_stops_sending_may_still_receive(tmp_path, way):
    if way == "tls relay":
        pytest.skip("TLS knows no half of a connection; QEMU does not need it")

    async def serve(reader, writer) -> None:
        asked = await reader.read()  # up to its end
        writer.write(asked * 3)
        await writer.drain()

    async def run() -> None:
        async with pair(tmp_path, serve) as both:
            await both.offer()
            reader, writer = await both.connect()
            writer.write(b"disconnect")
            writer.write_eof()
            assert await reader.read() == b"disconnect" * 3
            writer.close()

    asyncio.run(run())


def test_half_a_connection_does_not_stay(tmp_path, monkeypatch):
    monkeypatch.setattr(relay, "CLOSING_S_MAX", 0.1)

    async def deaf(reader, writer) -> None:
        await asyncio.sleep(60)

    async def run() -> None:
        async with pair(tmp_path, deaf) as both:
            await both.offer()
            reader, writer = await both.connect()
            writer.write_eof()
            assert await asyncio.wait_for(reader.read(), 5) == b""
            await until(lambda: both.secondary.streams.describe()["open"] == 0)
            writer.close()

    asyncio.run(run())


def test_held_writes_wait_on_their_way_and_arrive_in_order(tmp_path):
    got = bytearray()

    async def serve(reader, writer) -> None:
        while data := await reader.read(1 << 16):
            got.extend(data)
            writer.write(b"a" * len(data))  # as if each byte were a request

    async def run() -> None:
        async with pair(tmp_path, serve, disks=2) as both:
            await both.offer()
            clients = [await both.connect() for _disk in range(2)]
            for reader, writer in clients:
                writer.write(b"before")
                assert await asyncio.wait_for(reader.readexactly(6), 5) == b"aaaaaa"
            for _turn in range(2):
                both.leader.streams.hold()
                got.clear()
                data = os.urandom(200_000)
                for _reader, writer in clients:
                    writer.write(data)
                await asyncio.sleep(0.15)
                assert not got
                both.leader.streams.go_on()
                for reader, _writer in clients:
                    assert await asyncio.wait_for(reader.readexactly(len(data)), 10) == b"a" * len(data)
                assert len(got) == 2 * len(data)
            both.leader.streams.hold()  # and cut while they are held
            clients[0][1].write(b"never")
            got.clear()
            both.leader.streams.close()
            both.leader.streams.go_on()
            await until(lambda: both.secondary.streams.describe()["open"] == 0)
            assert not got
            for _reader, writer in clients:
                writer.close()

    asyncio.run(run())


def test_a_reader_that_is_slow_stops_its_writer_and_no_message(tmp_path):
    """What is under way is bounded."""
    quiet, taken = [], []

    async def serve(reader, writer) -> None:
        quiet.append(asyncio.Event())
        await quiet[0].wait()
        while data := await reader.read(1 << 16):
            taken.append(len(data))

    async def one(both: Pair) -> None:
        reader, writer = await both.connect()
        sent_bytes = 0
        with contextlib.suppress(asyncio.TimeoutError):
            while True:
                writer.write(bytes(1 << 16))
                await asyncio.wait_for(writer.drain(), 0.3)
                sent_bytes += 1 << 16
        assert sent_bytes < 24 * MIB  # kernels' buffers of three sockets, and ours
        held = sum(end.transport.get_write_buffer_size() for side in (both.leader, both.secondary) for end in side.streams._ends)
        assert held <= 2 * (relay.HIGH_WATER_BYTES + relay.READ_BYTES_MAX)
        both.leader.links.send("secondary", wire.CONTROL, wire.TransferLeadership(5))
        await until(lambda: both.secondary.heard)
        quiet[0].set()
        await asyncio.wait_for(writer.drain(), 5)
        writer.close()
        await until(lambda: sum(taken) >= sent_bytes)

    async def go() -> None:
        async with pair(tmp_path, serve) as both:
            await both.leader.links.start()
            await until(lambda: both.leader.links.links)
            await both.offer()
            await one(both)

    asyncio.run(go())


@pytest.mark.parametrize("loss", ["link", "export", "client", "close"])
def test_what_is_lost_on_one_side_ends_the_other(tmp_path, monkeypatch, loss):
    monkeypatch.setattr(relay, "CLOSING_S_MAX", 0.2)  # the loss of the link may look like its end
    ends = []

    async def serve(reader, writer) -> None:
        assert await reader.read(1) == b"1"
        ends.append(writer)
        ends.append(await reader.read(1))

    async def run() -> None:
        async with pair(tmp_path, serve) as both:
            await both.offer()
            reader, writer = await both.connect()
            writer.write(b"1")
            await until(lambda: ends)
            if loss == "link":
                next(iter(both.secondary.streams._ends)).abort()
            elif loss == "export":
                ends[0].transport.abort()
            elif loss == "client":
                writer.transport.abort()
            else:
                both.leader.streams.close()
            with contextlib.suppress(OSError):
                assert await asyncio.wait_for(reader.read(1), 5) == b""
            await until(lambda: len(ends) == 2 or loss == "export")
            await until(lambda: both.leader.streams.describe()["open"] == both.secondary.streams.describe()["open"] == 0)
            writer.close()

    asyncio.run(run())


def test_a_stream_is_given_more_time_than_a_link(tmp_path, way):
    """A disk that takes nothing for seconds is slow, not dead."""

    async def run() -> None:
        async with pair(tmp_path, echo) as both:
            await both.offer()
            for side in (both.leader,) if way in ("plain", "keyed") else (both.leader, both.secondary):
                (end,) = side.streams._ends
                sock = end.transport.get_extra_info("socket")
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == streams.UNANSWERED_MS

    asyncio.run(run())
