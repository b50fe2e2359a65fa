# SPDX-License-Identifier: GPL-3.0-or-later
"""The fault runner's clients against a server on loopback that forgets, closes and talks nonsense."""

from __future__ import annotations

import asyncio

import pytest

from lab.chaos import load
from lab.chaos.history import losses
from lab.linearizable import CAS, READ, WRITE


class Server:
    """A Redis for what our clients ask. ``misbehave(words)`` may return bytes to answer instead, b"" closes."""

    def __init__(self, misbehave=lambda words: None) -> None:
        self.kept: dict[bytes, bytes] = {}
        self.asked = 0
        self.misbehave = misbehave

    async def serve(self, reader, writer) -> None:
        while line := await reader.readline():
            words = [(await reader.readexactly(int((await reader.readline())[1:]) + 2))[:-2] for _ in range(int(line[1:]))]
            self.asked += 1
            said = self.misbehave(words)
            if said == b"":
                break
            writer.write(self.answer(words) if said is None else said)
        writer.close()

    def answer(self, words: list[bytes]) -> bytes:
        if words[0] == b"SET":
            self.kept[words[1]] = words[2]
            return b"+OK\r\n"
        if words[0] == b"GET":
            value = self.kept.get(words[1])
            return b"$-1\r\n" if value is None else b"$%d\r\n%s\r\n" % (len(value), value)
        hit = self.kept.get(words[3]) == words[4]
        if hit:
            self.kept[words[3]] = words[5]
        return b":%d\r\n" % hit


def run(monkeypatch, server: Server, operations: int = 60, clients: int = 3) -> tuple[load.Recorder, list[str]]:
    """``operations`` of each client, then everything read back."""

    async def scenario():
        listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
        monkeypatch.setattr(load, "SERVICE_IP", "127.0.0.1")
        monkeypatch.setattr(load, "SERVICE_PORT", listening.sockets[0].getsockname()[1])
        recorder, ending = load.Recorder(), asyncio.Event()
        tasks = [asyncio.ensure_future(load.Client(recorder, "t", n, ending).work(0.0001)) for n in range(clients)]
        while server.asked < operations * clients:
            await asyncio.sleep(0.001)
        ending.set()
        await asyncio.gather(*tasks)
        server.misbehave = lambda words: None
        lost = await load.read_back(recorder, "t")
        listening.close()
        return recorder, lost

    return asyncio.run(asyncio.wait_for(scenario(), 30))


def test_a_good_server_gives_a_good_history_of_all_kinds(monkeypatch):
    recorder, lost = run(monkeypatch, Server())
    seen = recorder.history(lost)
    assert losses(seen) == [] and seen.unknown == seen.broken == 0
    assert {op.kind for op in seen.ops} == {READ, WRITE, CAS} and recorder.ledger
    assert any(op.kind == CAS and op.result for op in seen.ops)
    values = [op.value for op in seen.ops if op.kind != READ]
    assert len(values) == len(set(values))
    assert seen.acked == len(seen.acks) >= 180


def test_a_connection_that_breaks_leaves_one_unknown_and_is_made_anew(monkeypatch):
    server = Server()
    server.misbehave = lambda words: b"" if server.asked % 20 == 0 else None
    recorder, lost = run(monkeypatch, server)
    seen = recorder.history(lost)
    assert seen.broken == seen.unknown > 3 and losses(seen) == []


@pytest.mark.parametrize("nonsense", [b"-ERR out of memory\r\n", b"+QUEUED\r\n", b":7\r\n", b"$3\r\nab", b"\r\n"])
def test_what_is_no_answer_is_never_an_acknowledgement(monkeypatch, nonsense):
    server = Server()
    server.misbehave = lambda words: nonsense if server.asked % 20 == 0 else None
    monkeypatch.setattr(load, "OP_TIMEOUT_S", 0.05)
    recorder, lost = run(monkeypatch, server)
    seen = recorder.history(lost)
    assert seen.unknown > 3 and losses(seen) == []
    assert all(op.unknown or op.kind != READ or op.result is None or "-" in op.result for op in seen.ops)


def test_a_server_that_forgets_an_acknowledged_key_is_found_out(monkeypatch):
    server = Server()
    server.misbehave = lambda words: b"+OK\r\n" if words[0] == b"SET" and server.asked % 20 == 0 else None
    recorder, lost = run(monkeypatch, server)
    assert losses(recorder.history(lost))


def test_a_closed_connection_is_no_missing_key():
    async def scenario():
        reader = asyncio.StreamReader()
        reader.feed_eof()
        return await load.bulk(reader)

    with pytest.raises(load.Unanswered):
        asyncio.run(scenario())
