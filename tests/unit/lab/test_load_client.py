# SPDX-License-Identifier: GPL-3.0-or-later
"""The load client's accounting, and its reading back, against a server that loses and changes keys."""

from __future__ import annotations

import asyncio

from lab import client
from lab.client import History, command


def test_only_an_ok_counts_as_acknowledged():
    history = History()
    history.answer("a", "1", b"+OK\r\n", 1.0)
    for n, line in enumerate((b"", b"-ERR out of memory\r\n", b"+OK", b"+QUEUED\r\n")):
        history.answer(f"b{n}", "2", line, 2.0)
    assert history.acked == {"a": "1"} and history.unknown == 4


def test_the_outage_is_the_longest_time_without_an_acknowledgement():
    history = History()
    for now in (10.0, 10.1, 10.75, 10.8):
        history.answer("k", "v", b"+OK\r\n", now)
    assert history.gap_ms() == 650
    assert History().gap_ms() == 0


def test_reading_back_finds_lost_and_changed_keys(monkeypatch):
    kept = {b"k0": b"0", b"k2": b"another value", b"k3": b"3"}

    async def serve(reader, writer):
        while line := await reader.readline():
            count = int(line[1:])
            words = [await reader.readexactly(int((await reader.readline())[1:]) + 2) for _ in range(count)]
            value = kept.get(words[1][:-2])
            writer.write(b"$-1\r\n" if value is None else b"$%d\r\n%s\r\n" % (len(value), value))
        writer.close()

    async def scenario() -> int:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        monkeypatch.setattr(client, "SERVICE_IP", "127.0.0.1")
        monkeypatch.setattr(client, "SERVICE_PORT", server.sockets[0].getsockname()[1])
        monkeypatch.setattr(client, "PIPELINE", 3)
        history = History()
        history.acked = {f"k{n}": str(n) for n in range(5)}
        async with server:
            return await client.verify(history)

    assert asyncio.run(scenario()) == 3  # k1 and k4 are gone, k2 is not what was acknowledged


def test_a_command_is_what_redis_expects():
    assert command("SET", "ä", "1") == b"*3\r\n$3\r\nSET\r\n$2\r\n\xc3\xa4\r\n$1\r\n1\r\n"
