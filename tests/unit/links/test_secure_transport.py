# SPDX-License-Identifier: GPL-3.0-or-later
"""Flow control, limits and ends of a connection are the same with TLS as without."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager

import pytest
from plover.links import link
from plover.links.greeting import Greeting
from plover.protocol import wire
from test_peers import until
from test_tls import pair, started

pytestmark = pytest.mark.usefixtures("quick")
MIB = 1 << 20


class Plain(asyncio.BufferedProtocol):
    """Takes over a greeted link's transport, as the streams of disks do."""

    def __init__(self):
        self.got, self.buffer, self.ended = bytearray(), bytearray(4096), False

    def get_buffer(self, sizehint):
        return self.buffer

    def buffer_updated(self, nbytes):
        self.got += self.buffer[:nbytes]

    def connection_lost(self, exc):
        self.ended = True


@asynccontextmanager
async def linked(tmp_path, ca):
    """(primary's, secondary's) end of the data channel."""
    for name in ("primary", "secondary"):
        ca.give(tmp_path / name, name)
    one, other = pair(tmp_path, second="secondary")
    async with started(other, one):
        await until(lambda: len(one.up) == len(other.up) == 2)
        yield one.links.links["secondary", wire.DATA], other.links.links["primary", wire.DATA], other


def test_who_sends_more_than_the_other_reads_is_told_to_wait_and_when_to_go_on(tmp_path, ca):
    async def run():
        async with linked(tmp_path, ca) as (ours, theirs, member):
            theirs.transport.pause_reading()
            assert not theirs.transport.is_reading()
            count = 0
            while ours.writable:
                ours.send(wire.FillPages(1, count, 0, bytes(MIB)))
                count += 1
                assert count < 100
            assert ours.transport.get_write_buffer_size() > link.HIGH_WATER_BYTES
            heard = len(member.heard)
            await asyncio.sleep(0.1)
            assert len(member.heard) == heard
            theirs.transport.resume_reading()
            await until(lambda: ours.writable)
            await until(lambda: len(member.heard) == count)
            assert [m.join for _, _, m in member.heard] == list(range(count))

    asyncio.run(run())


def test_a_reader_that_pauses_in_the_middle_loses_nothing(tmp_path, ca):
    """What OpenSSL has already is kept back as well."""

    async def run():
        async with linked(tmp_path, ca) as (ours, theirs, member):
            seen = member.links.on_message

            def pausing(*message):
                theirs.transport.pause_reading()
                seen(*message)

            member.links.on_message = pausing
            for n in range(20):
                ours.send(wire.FillPages(1, n, 0, bytes([n]) * (300_000)))
            for n in range(20):
                await until(lambda: len(member.heard) > n)  # noqa: B023 (awaited in this very turn)
                theirs.transport.resume_reading()
            assert [m.join for _, _, m in member.heard] == list(range(20))

    asyncio.run(run())


def test_a_queue_that_nobody_reads_costs_the_link(tmp_path, ca, monkeypatch, caplog):
    monkeypatch.setattr(link, "QUEUE_BYTES_MAX", 8 * MIB)

    async def run():
        async with linked(tmp_path, ca) as (ours, theirs, _):
            theirs.transport.pause_reading()
            while not ours.transport.is_closing():
                ours.send(wire.FillPages(1, 0, 0, bytes(MIB)))

    asyncio.run(run())
    assert "link to secondary: over 8388608 bytes unsent, closing it" in caplog.text


def test_another_protocol_can_take_the_transport(tmp_path, ca):
    async def run():
        async with linked(tmp_path, ca) as (ours, theirs, _):
            plain = [Plain(), Plain()]
            for end, protocol in zip((ours, theirs), plain):
                end.transport.set_protocol(protocol)
                assert end.transport.get_protocol() is protocol and not end.transport.can_write_eof()
            ours.transport.write(b"a" * 1_000_000)
            theirs.transport.writelines([b"b", b"", b"c"])
            await until(lambda: len(plain[1].got) == 1_000_000 and plain[0].got == b"bc")
            ours.transport.write(b"last")
            ours.transport.close()  # what is under way still arrives
            await until(lambda: plain[1].ended and plain[0].ended)
            assert plain[1].got.endswith(b"alast")

    asyncio.run(run())


def test_a_peer_that_vanishes_without_a_word_is_noticed(tmp_path, ca):
    tcp_repair = 19  # linux/tcp.h: closed in this mode, a socket leaves without a word

    async def run():
        async with linked(tmp_path, ca) as (ours, theirs, member):
            sock = theirs.transport.get_extra_info("socket")
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == link.UNANSWERED_MS
            ours.transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, tcp_repair, 1)
            ours.transport.abort()
            await until(lambda: ("primary", wire.DATA) in member.down)

    asyncio.run(run())


def test_a_damaged_record_closes_the_link_and_goes_no_further(tmp_path, ca, caplog):
    """On the path, somebody changes a byte."""
    for name in ("primary", "secondary"):
        ca.give(tmp_path / name, name)

    async def run():
        async with linked(tmp_path, ca) as (ours, _theirs, member):
            ours.transport._raw.write(b"\x17\x03\x03\x00\x20" + bytes(32))
            await until(lambda: ("primary", wire.DATA) in member.down)
            assert member.heard == [] and member.links.refusals["primary"][0] == 1

    asyncio.run(run())
    assert "link to primary refused: no valid TLS 1.3" in caplog.text


def test_links_are_dialled_one_at_a_time(tmp_path, ca, monkeypatch):
    """A handshake takes longer than the pause between dials, and a second link would only end the first."""
    for name in ("primary", "witness"):
        ca.give(tmp_path / name, name)
    made = []
    dial = Greeting.dial

    def counted(self, channel):
        made.append(self)
        asyncio.get_running_loop().call_later(0.2, dial, self, channel)

    monkeypatch.setattr(Greeting, "dial", counted)

    async def run():
        one, other = pair(tmp_path)
        async with started(other, one):
            await until(lambda: one.up and other.up)
            assert len(made) == 1

    asyncio.run(run())
