# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is not let in to a member's disks, and what each side does about nonsense of the other."""

from __future__ import annotations

import asyncio
import os

import pytest
from plover.errors import QemuError
from plover.links import streams
from plover.links.streams import Export
from plover.protocol import codec, wire
from settings import MEMBERS
from stream_pair import COPY, echo, pair
from test_peers import closed, hello, sent, until


async def after_hello(reader) -> bytes:
    """What comes after the other side's Hello, up to the end."""
    data = await closed(reader)
    return data[codec.HEADER.size + codec.HEADER.unpack_from(data)[-1] :]


def test_only_our_own_qemu_gets_at_the_secondarys_disks(tmp_path):
    async def run() -> None:
        async with pair(tmp_path, echo) as both:
            await both.leader.streams.offer("secondary", COPY, both.leader.path, os.getpid() + 1, lambda path: None)
            reader, writer = await both.connect()
            assert await closed(reader) == b""
            assert both.leader.streams.describe()["open"] == 1  # it still waits for QEMU
            writer.close()

    asyncio.run(run())


def test_a_socket_that_is_not_our_qemus_is_not_spoken_to(tmp_path):
    """QEMU's user may put a link to any other socket in its place."""

    async def run() -> None:
        async with pair(tmp_path, echo) as both:
            both.secondary.pid += 1
            with pytest.raises(QemuError, match="secondary does not make its disks ready for a copy: .*is not our QEMU's"):
                await both.offer()
            assert both.secondary.streams.refused == 1
            assert "is not our QEMU's" in both.secondary.streams.why

    asyncio.run(run())


def test_a_secondary_that_waits_for_no_copy_says_so(tmp_path):
    async def run() -> None:
        async with pair(tmp_path, echo) as both:
            both.secondary.name = "another"
            with pytest.raises(QemuError, match="secondary does not make its disks ready for a copy: 'that is not the copy"):
                await both.offer()
            await until(lambda: both.secondary.streams.describe()["open"] == 0)
            assert both.secondary.streams.refused == 1
            assert both.secondary.streams.why == "primary: that is not the copy that this host asked for"
            assert both.served == 0 and not both.leader.path.exists()
            both.secondary.name = COPY
            await both.offer()

    asyncio.run(run())


HOSTILE = {
    "no name": b"copy \n",
    "another name": b"copy " + b"b" * 32 + b"\n",
    "NBD": b"\0\0\0\3IHAVEOPT" + b"\0" * 9 + b"\n",
    "no end": b"copy " + b"a" * 1000,
    "a message": sent(wire.TransferLeadership(5)) + b"\n",
    "a second Hello": sent(hello(channel=wire.DISKS)) + b"\n",
    "no letters": b"copy \xff\xfe\0\n",
    "half a line": b"copy aaa",
    "nothing": b"",
}


@pytest.mark.parametrize("said", HOSTILE.values(), ids=HOSTILE)
def test_who_asks_for_no_copy_of_ours_is_refused_and_counted(tmp_path, monkeypatch, said):
    monkeypatch.setattr(streams, "ASK_S_MAX", 0.2)

    async def run() -> None:
        async with pair(tmp_path, echo) as both:
            reader, writer = await both.dial()
            writer.write(said)
            assert streams.READY not in await after_hello(reader)
            await until(lambda: both.secondary.streams.refused == 1)
            assert both.served == 0 and both.secondary.heard == []
            writer.close()
            await both.offer()  # others are not harmed

    asyncio.run(run())


def test_the_witness_is_refused_the_disks(tmp_path):
    async def run() -> None:
        async with pair(tmp_path, echo) as both:
            reader, writer = await both.dial(member="witness")
            writer.write(b"copy " + COPY.encode() + b"\n")
            assert await closed(reader) == b""
            assert both.served == 0 and both.secondary.streams.describe()["open"] == 0
            writer.close()

    asyncio.run(run())


def test_who_does_not_know_the_secret_is_refused_the_disks(tmp_path):
    (tmp_path / "secret").write_text("0123456789abcdef" * 4)
    (tmp_path / "secret").chmod(0o600)

    async def run() -> None:
        async with pair(tmp_path, echo, secret_file=str(tmp_path / "secret")) as both:
            for nonce in ({}, {"nonce": "ab" * 16}):
                reader, writer = await asyncio.open_connection(MEMBERS["secondary"]["address"], both.port)
                writer.write(sent(hello(channel=wire.DISKS, **nonce)) + sent(wire.Proof(bytes(32))) + b"copy " + COPY.encode() + b"\n")
                assert streams.READY + b"\n" not in await closed(reader)
                writer.close()
            assert both.served == 0

    asyncio.run(run())


def test_more_streams_than_the_vm_has_disks_twice_over_are_refused(tmp_path):
    async def run() -> None:
        async with pair(tmp_path, echo) as both:
            open_ones = []
            for _ in range(2):
                reader, writer = await both.dial()
                writer.write(b"copy " + COPY.encode() + b"\n")
                open_ones.append((reader, writer))
            await until(lambda: both.secondary.streams.describe()["open"] == 2)
            reader, writer = await both.dial()
            writer.write(b"copy " + COPY.encode() + b"\n")
            assert b"2 streams are open, and this VM has 1 disks" in await after_hello(reader)
            assert both.secondary.streams.refused == 1
            for _reader, writer in open_ones:
                writer.close()

    asyncio.run(run())


def test_a_member_without_disks_takes_no_stream(tmp_path):
    async def run() -> None:
        async with pair(tmp_path, echo, disks=0) as both:
            reader, writer = await both.dial()
            assert b"this VM has 0 disks" in await after_hello(reader)
            writer.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    "answer, words",
    [
        (b"no\x1b[2J\n", r"does not make its disks ready for a copy: 'no\\x1b\[2J'"),
        (b"x" * 10_000, "cannot be reached: a line of over"),
        (b"", "cannot be reached: no answer in time"),
        (None, "cannot be reached: it closed the connection"),
    ],
)
def test_a_secondary_that_answers_nonsense_is_told_and_bounded(tmp_path, monkeypatch, answer, words):
    monkeypatch.setattr(streams, "READY_S_MAX", 0.3)

    async def run() -> None:
        async with pair(tmp_path, echo) as both:

            def take(member, channel, end) -> None:
                end.abort() if answer is None else end.transport.write(answer)

            both.secondary.links.on_stream = take
            with pytest.raises(QemuError, match=words):
                await both.offer()
            await until(lambda: both.leader.streams.describe()["open"] == 0)
            assert not both.leader.path.exists()

    asyncio.run(run())


def test_a_leader_that_gives_up_while_it_dials_leaves_nothing(tmp_path):
    async def run() -> None:
        async with pair(tmp_path, echo) as both:

            async def hangs(name: str) -> Export:
                await asyncio.sleep(60)
                raise AssertionError

            both.secondary.streams._export = hangs
            offer = asyncio.ensure_future(both.offer())
            await until(lambda: both.secondary.streams.describe()["open"] == 1)
            offer.cancel()
            with pytest.raises(asyncio.CancelledError):
                await offer
            assert not both.leader.path.exists()
            both.secondary.streams.close()

    asyncio.run(run())


def test_a_secondary_that_is_not_there_is_told(tmp_path):
    async def run() -> None:
        async with pair(tmp_path, echo) as both:
            await both.secondary.links.stop()
            with pytest.raises(QemuError, match="the disks of secondary cannot be reached"):
                await both.offer()

    asyncio.run(run())
