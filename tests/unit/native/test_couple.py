# SPDX-License-Identifier: GPL-3.0-or-later
"""Coupled sockets: every byte arrives, in order; ends and losses reach the other side; a key keeps strangers out and readers blind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import ssl
from pathlib import Path

import pytest
from plover.native import couple
from plover.native.buffers import NativeError
from plover.native.couple import Couple

from lab.pki import Authority

MIB = 1 << 20
KEY = bytes(range(32))


ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setenv("PLOVER_NATIVE_DIR", str(ROOT / "native" / "build"))
    couple._library.cache_clear()
    monkeypatch.setattr(couple, "CLOSING_S_MAX", 0.3)


class Chain:
    """``here`` and ``there``, the outer ends of two couples, whose inner sockets are connected. ``ended``: how often a couple has."""

    def __init__(self, keys: tuple[bytes | None, bytes | None] = (None, None), between=None, **more) -> None:
        self.here, mine = socket.socketpair()
        theirs, self.there = socket.socketpair()
        self.inner = between or socket.socketpair()
        self.ended = 0
        self.couples = [
            Couple(self.inner[0], mine, self._end, keys[0], dials=True),
            Couple(self.inner[1], theirs, self._end, keys[1], **more),
        ]

    def _end(self) -> None:
        self.ended += 1

    async def both_ended(self, seconds: float = 5.0) -> None:
        end = asyncio.get_running_loop().time() + seconds
        while self.ended < 2:
            assert asyncio.get_running_loop().time() < end, "a couple goes on"
            await asyncio.sleep(0.01)

    async def streams(self):
        return await asyncio.open_connection(sock=self.here), await asyncio.open_connection(sock=self.there)

    def close(self) -> None:
        for each in self.couples:
            each.close()


@pytest.fixture(params=[None, KEY], ids=["plain", "keyed"])
def keys(request):
    return request.param, request.param


async def sent_and_got(writer, reader, data: bytes) -> bool:
    got = asyncio.ensure_future(reader.readexactly(len(data)))
    writer.write(data)
    await writer.drain()
    return await asyncio.wait_for(got, 30) == data


async def rest(reader) -> bytes:
    """What comes before the end; nothing if our own words came too late to be sent."""
    try:
        return await asyncio.wait_for(reader.read(), 5)
    except OSError:
        return b""


def test_every_byte_arrives_in_both_directions_at_a_time(keys):
    async def run() -> None:
        chain = Chain(keys)
        (reader, writer), (their_reader, their_writer) = await chain.streams()
        data, answer = os.urandom(8 * MIB), os.urandom(8 * MIB)
        assert all(await asyncio.gather(sent_and_got(writer, their_reader, data), sent_and_got(their_writer, reader, answer)))
        for size in (1, 16_384, 16_385, 262_144, 262_145):
            assert await sent_and_got(writer, their_reader, data[:size]) and await sent_and_got(their_writer, reader, answer[:size])
        assert chain.ended == 0
        chain.close()
        assert await reader.read() == await their_reader.read() == b"" and chain.ended == 2

    asyncio.run(run())


@pytest.mark.parametrize("first", [0, 1])
def test_a_side_that_is_held_is_not_read_and_loses_nothing(keys, first):
    """``first`` of the chain's couples: the one whose plain socket is ``here``, or the one that has ``there``."""

    async def run() -> None:
        chain = Chain(keys)
        streams = await chain.streams()
        (reader, writer), (their_reader, their_writer) = streams if first == 0 else streams[::-1]
        assert await sent_and_got(writer, their_reader, b"before")
        for _time in range(3):
            chain.couples[first].hold(1, True)
            data = os.urandom(MIB)
            writer.write(data)
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(their_reader.readexactly(1), 0.1)
            assert await sent_and_got(their_writer, reader, b"the other direction goes on")
            chain.couples[first].hold(1, False)
            assert await asyncio.wait_for(their_reader.readexactly(len(data)), 30) == data
        chain.couples[first].hold(1, True)
        chain.close()
        chain.couples[first].hold(1, False)  # too late, and no harm

    asyncio.run(run())


def test_a_side_that_is_held_learns_of_the_others_end(keys):
    async def run() -> None:
        chain = Chain(keys)
        (reader, _writer), (_their_reader, their_writer) = await chain.streams()
        chain.couples[0].hold(1, True)
        their_writer.transport.abort()
        assert await rest(reader) == b""
        await chain.both_ended()

    asyncio.run(run())


def test_a_side_that_has_ended_may_still_receive_for_a_while(keys):
    async def run() -> None:
        chain = Chain(keys)
        (reader, writer), (their_reader, their_writer) = await chain.streams()
        writer.write(b"that is all")
        writer.write_eof()
        assert await their_reader.read() == b"that is all"
        assert await sent_and_got(their_writer, reader, b"and more" * 1000)
        await chain.both_ended()  # although the other side never ends
        assert await reader.read() == b""

    asyncio.run(run())


def test_both_ends_end_it_at_once(keys, monkeypatch):
    monkeypatch.setattr(couple, "CLOSING_S_MAX", 60)

    async def run() -> None:
        chain = Chain(keys)
        (reader, writer), (their_reader, their_writer) = await chain.streams()
        assert await sent_and_got(writer, their_reader, b"x")
        writer.write_eof()
        assert await their_reader.read() == b""
        their_writer.write_eof()
        await chain.both_ended()

    asyncio.run(run())


@pytest.mark.parametrize("lost", ["here", "inner"])
def test_what_is_lost_on_one_side_ends_the_other(keys, lost, monkeypatch):
    if lost == "inner" and keys[0]:  # the loss of a socket without TLS looks like its end
        monkeypatch.setattr(couple, "CLOSING_S_MAX", 60)

    async def run() -> None:
        chain = Chain(keys)
        (reader, writer), (their_reader, their_writer) = await chain.streams()
        assert await sent_and_got(writer, their_reader, b"x")
        if lost == "here":
            writer.transport.abort()
        else:
            chain.couples[0].close()
        assert await rest(their_reader) == b""
        await chain.both_ended()

    asyncio.run(run())


def test_a_reader_that_takes_nothing_stops_its_writer(keys):
    async def run() -> None:
        chain = Chain(keys)
        chain.here.setblocking(False)
        sent_bytes, data = 0, bytes(64 << 10)
        for _look in range(50):
            with contextlib.suppress(BlockingIOError):
                while True:
                    sent_bytes += chain.here.send(data)
            await asyncio.sleep(0.01)
        assert MIB // 4 < sent_bytes < 8 * MIB  # three sockets' buffers, and ours
        reader, _writer = await asyncio.open_connection(sock=chain.there)
        assert await asyncio.wait_for(reader.readexactly(sent_bytes), 30) == bytes(sent_bytes)
        chain.close()

    asyncio.run(run())


def test_the_first_bytes_go_before_all_else(keys):
    async def run() -> None:
        chain = Chain(keys, first=b"NBDMAGIC" * 1000)
        (reader, writer), (_reader, their_writer) = await chain.streams()
        their_writer.write(b"then this")
        assert await asyncio.wait_for(reader.readexactly(8009), 5) == b"NBDMAGIC" * 1000 + b"then this"
        writer.close()
        await chain.both_ended()

    asyncio.run(run())


# ---- by key --------------------------------------------------------------------------------------------------------
def test_who_does_not_know_the_key_gets_nothing_in_and_reads_nothing():
    async def run() -> None:
        chain = Chain((KEY, bytes(32)))
        (reader, writer), (their_reader, their_writer) = await chain.streams()
        writer.write(b"a secret")
        their_writer.write(b"a lie")
        assert await rest(reader) == await rest(their_reader) == b""
        await chain.both_ended()

    asyncio.run(run())


def test_a_server_with_a_certificate_in_place_of_the_key_is_refused(tmp_path):
    """Whoever stands on the path has no key, but may have any certificate."""
    Authority("6f9619ff-8b86-4d01-b42d-00cf4fc964ff").give(tmp_path, "secondary")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")

    async def run() -> None:
        mine, theirs = socket.socketpair()
        here, outer = socket.socketpair()
        ended = asyncio.Event()
        Couple(mine, outer, ended.set, KEY, dials=True)
        reader, writer = await asyncio.open_connection(sock=here)
        writer.write(b"a secret")

        def impostor() -> bytes:
            theirs.settimeout(5)
            try:
                with context.wrap_socket(theirs, server_side=True) as server:
                    return server.recv(100)
            except (ssl.SSLError, OSError):
                return b""

        assert await asyncio.to_thread(impostor) == b""
        assert await rest(reader) == b""
        await asyncio.wait_for(ended.wait(), 5)

    asyncio.run(run())


@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01\x00\x05hello", b"plain words of NBD" * 100, bytes(5000)])
def test_nonsense_in_place_of_a_handshake_ends_it(said):
    async def run() -> None:
        for dials in (True, False):
            mine, theirs = socket.socketpair()
            here, outer = socket.socketpair()
            ended = asyncio.Event()
            Couple(mine, outer, ended.set, KEY, dials)
            theirs.send(said) if said else None
            theirs.shutdown(socket.SHUT_WR)
            reader, writer = await asyncio.open_connection(sock=here)
            assert await rest(reader) == b""
            await asyncio.wait_for(ended.wait(), 5)
            writer.close()
            theirs.close()

    asyncio.run(run())


def test_what_goes_between_them_cannot_be_read_and_a_changed_byte_ends_it():
    """A relay of the test's own stands between them."""
    secret, seen, change = b"a page of the disk that nobody may read", bytearray(), []

    async def pass_on(reader, writer) -> None:
        while data := await reader.read(1 << 16):
            seen.extend(data)
            if change and len(data) > 100:
                data = data[:50] + bytes([data[50] ^ 1]) + data[51:]
            writer.write(data)
        writer.close()

    async def run() -> None:
        (one, left), (right, other) = socket.socketpair(), socket.socketpair()
        ends = [await asyncio.open_connection(sock=each) for each in (left, right)]
        tasks = [asyncio.ensure_future(pass_on(ends[n][0], ends[1 - n][1])) for n in (0, 1)]
        chain = Chain((KEY, KEY), (one, other))
        (reader, writer), (their_reader, their_writer) = await chain.streams()
        assert await sent_and_got(writer, their_reader, secret * 100) and await sent_and_got(their_writer, reader, secret * 100)
        assert len(seen) > 200 * len(secret) and secret not in seen and KEY not in seen
        change.append(True)
        writer.write(secret * 100)
        assert await rest(their_reader) == b""
        await chain.both_ended()
        for task in tasks:
            await asyncio.wait_for(task, 5)

    asyncio.run(run())


# ---- refusals ------------------------------------------------------------------------------------------------------
def test_what_it_cannot_take_stays_the_callers():
    async def run() -> None:
        one, other = socket.socketpair()
        for key, first, words in ((b"short", b"", "a key of 5 bytes, need 32"), (None, bytes(MIB), "coupling two sockets")):
            with pytest.raises(NativeError, match=words):
                Couple(one, other, lambda: None, key, first=first)
        assert one.fileno() >= 0 and other.fileno() >= 0
        one.close()
        other.close()

    asyncio.run(run())


def test_no_thread_and_no_descriptor_stays():
    def count() -> tuple[int, int]:
        return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))

    async def run() -> None:
        gc.collect()  # sockets of the tests before
        before = count()
        for turn in range(20):
            chain = Chain((KEY, KEY) if turn % 2 else (None, None))
            chain.close()
            chain.close()
            assert chain.ended == 2
            chain.here.close()
            chain.there.close()
        gc.collect()
        assert all(now <= then for now, then in zip(count(), before))

    asyncio.run(run())
