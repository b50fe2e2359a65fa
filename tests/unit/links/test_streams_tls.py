# SPDX-License-Identifier: GPL-3.0-or-later
"""The streams of the disks by TLS: nothing of them can be read, and what ends them."""

from __future__ import annotations

import asyncio
import re
import time
from contextlib import asynccontextmanager

import pytest
import stream_pair
from plover.links import relay, secure_transport, security, tls
from plover.native import couple
from stream_pair import echo, pair
from test_peers import until

from lab.pki import DAY, put

SECRET = b"a page of the disk that nobody may read"


@pytest.fixture(autouse=True, params=["native", "relay"])
def by_tls(request, monkeypatch, quick):
    """In the native library by a key of each stream, or in this process."""
    monkeypatch.setattr(stream_pair, "TLS", True)
    monkeypatch.setattr(relay, "NATIVE", request.param == "native")
    for module in (relay, couple):
        monkeypatch.setattr(module, "CLOSING_S_MAX", 0.2)
    return request.param


async def asked(reader, writer, data: bytes = b"x") -> bytes:
    """What comes back; nothing if the stream is closed."""
    try:
        writer.write(data)
        return await asyncio.wait_for(reader.readexactly(len(data)), 5)
    except (OSError, asyncio.IncompleteReadError):
        return b""


def opened(both) -> list[int]:
    return [side.streams.describe()["open"] for side in (both.leader, both.secondary)]


@asynccontextmanager
async def streaming(tmp_path, modes="", **lives):
    """A pair with its links and a stream; what a client of the leader has of it."""
    async with pair(tmp_path, echo) as both:
        for name, folder in both.folders.items():
            both.serials = {**getattr(both, "serials", {}), name: both.authority.give(folder, name, mode=modes, **lives)}
        await both.leader.links.start()
        await until(lambda: len(both.leader.links.links) == 2)
        await both.offer()
        reader, writer = await both.connect()
        assert await asked(reader, writer) == b"x"
        yield both, reader, writer
        writer.close()


@pytest.mark.parametrize("by_tls", ["relay"], indirect=True)
def test_what_goes_through_the_socket_is_encrypted(tmp_path, monkeypatch):
    seen = bytearray()
    feed = secure_transport.SecureTransport.buffer_updated

    def look(transport, count):
        seen.extend(transport._into[:count])
        feed(transport, count)

    monkeypatch.setattr(secure_transport.SecureTransport, "buffer_updated", look)

    async def run() -> None:
        async with streaming(tmp_path) as (both, reader, writer):
            assert await asked(reader, writer, SECRET * 100) == SECRET * 100
            assert len(seen) > 2 * 100 * len(SECRET) and SECRET not in seen
            for side in (both.leader, both.secondary):
                assert all(isinstance(end.transport, secure_transport.SecureTransport) for end in side.streams._ends)

    asyncio.run(run())


@pytest.mark.parametrize("who", ["primary", "secondary"])
def test_a_revoked_certificate_ends_its_streams(tmp_path, caplog, who):
    async def run() -> None:
        async with streaming(tmp_path) as (both, reader, writer):
            other = "secondary" if who == "primary" else "primary"
            put(both.folders[other] / tls.REVOKED, f"{both.serials[who]:x}\n")
            await until(lambda: opened(both) == [0, 0])
            assert await asked(reader, writer) == b""
            assert f"stream of a disk, to {who}, closed: its certificate ({both.serials[who]:x}) is in" in caplog.text

    asyncio.run(run())


def test_a_renewed_certificate_ends_no_stream_even_when_the_old_one_has_ended(tmp_path, monkeypatch, caplog):
    async def run() -> None:
        async with streaming(tmp_path, life=1 * DAY) as (both, reader, writer):
            before = dict(both.leader.links.links)
            for name, folder in both.folders.items():
                both.authority.give(folder, name)
            await until(lambda: all(link is not before[key] and link.succession is None for key, link in both.leader.links.links.items()))
            monkeypatch.setattr(tls, "wall", lambda: time.time() + 2 * DAY.total_seconds())
            await asyncio.sleep(10 * security.LOOK_S)
            assert opened(both) == [1, 1] and await asked(reader, writer) == b"x"
            assert "closed" not in caplog.text

    asyncio.run(run())


def test_a_certificate_that_ends_and_was_not_renewed_ends_its_streams(tmp_path, monkeypatch, caplog):
    async def run() -> None:
        async with streaming(tmp_path, life=1 * DAY) as (both, reader, writer):
            monkeypatch.setattr(tls, "wall", lambda: time.time() + 2 * DAY.total_seconds())
            await until(lambda: opened(both) == [0, 0])
            assert await asked(reader, writer) == b""
            assert re.search("stream of a disk, to (primary|secondary), closed: its certificate has expired", caplog.text)

    asyncio.run(run())


def test_a_stream_without_tls_is_told_and_ends_where_only_tls_is_accepted(tmp_path, caplog):
    async def run() -> None:
        async with streaming(tmp_path, modes="accept") as (both, reader, writer):
            for folder in both.folders.values():
                put(folder / tls.MODE, "dial")
            await until(lambda: security.describe(both.leader.links)["link_security"] == "tls")
            assert await asked(reader, writer) == b"x"
            assert any(
                "disk writes to secondary are not encrypted yet" in line for line in security.describe(both.leader.links)["tls"]["warnings"]
            )
            (both.folders["secondary"] / tls.MODE).unlink()
            await until(lambda: opened(both) == [0, 0])
            assert "stream of a disk, to primary, closed: it is not encrypted" in caplog.text
            assert not security.describe(both.leader.links)["tls"]["warnings"]
            writer.close()
            await both.offer()
            reader, writer = await both.connect()
            assert await asked(reader, writer) == b"x" and not security.describe(both.leader.links)["tls"]["warnings"]

    asyncio.run(run())


def test_the_other_members_certificate_is_asked_of_a_stream_too(tmp_path, caplog):
    async def run() -> None:
        async with pair(tmp_path, echo) as both:
            put(both.folders["primary"] / tls.CA, stream_pair.Authority(both.authority.cluster_id).pem)
            with pytest.raises(stream_pair.QemuError, match="cannot be reached"):
                await both.offer()
            assert opened(both) == [0, 0] and both.served == 0

    asyncio.run(run())
