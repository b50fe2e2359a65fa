# SPDX-License-Identifier: GPL-3.0-or-later
"""The clients of one round: reads, writes and compare-and-set on few keys, and keys written once. Real Redis.

Runs in the client's namespace: `python3 -m lab.chaos.load --run r7 --out FILE`; SIGTERM ends the load, then everything is
read back. An operation whose answer did not come is unknown, whether the connection broke or the time was over.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import random
import signal
import sys
import time
from pathlib import Path

from ..client import PIPELINE, command
from ..hosts import SERVICE_IP, SERVICE_PORT
from ..linearizable import CAS, READ, UNKNOWN, WRITE, Op
from .history import History, dump

KEYS = 5
OP_TIMEOUT_S = 60.0  # above every outage that is expected, so that few operations stay unknown
CONNECT_TIMEOUT_S, CONNECT_S_MAX = 5.0, 100.0
FRESH_EVERY_S = 0.1
FRESH_TIMEOUT_S = 10.0
FRESH_OPEN_MAX = 30
DURATION_S_MAX = 600.0
CAS_SCRIPT = "if redis.call('GET',KEYS[1])==ARGV[1] then redis.call('SET',KEYS[1],ARGV[2]) return 1 else return 0 end"


class Unanswered(Exception):
    """The server said something that is no answer to what was asked."""


async def connect() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Ask again, as any client would, for as long as a round may take. Raises OSError after that."""
    end = time.monotonic() + CONNECT_S_MAX
    while True:
        try:
            return await asyncio.wait_for(asyncio.open_connection(SERVICE_IP, SERVICE_PORT), CONNECT_TIMEOUT_S)
        except (OSError, asyncio.TimeoutError) as error:
            if time.monotonic() > end:
                raise OSError(f"no connection to {SERVICE_IP}:{SERVICE_PORT} in {CONNECT_S_MAX:.0f} s: {error}") from error
            await asyncio.sleep(0.2)


async def bulk(reader: asyncio.StreamReader) -> str | None:
    """One answer to GET; None only if the server says that the key is not there."""
    head = await reader.readline()
    if head == b"$-1\r\n":
        return None
    if not (head.startswith(b"$") and head.endswith(b"\r\n")):
        raise Unanswered(head)
    return (await reader.readexactly(int(head[1:]) + 2))[:-2].decode()


class Recorder:
    """What happened, so far. No socket, no clock."""

    def __init__(self) -> None:
        self.ops: list[Op] = []
        self.acks: list[float] = []
        self.fresh_acks: list[float] = []
        self.ledger: dict[str, str] = {}
        self.seen: dict[str, object] = {}
        self.unknown = self.broken = 0
        self.wait_s_max = 0.0

    def done(self, op: Op) -> None:
        self.acks.append(op.end)
        self.ops.append(op)
        self.wait_s_max = max(self.wait_s_max, op.end - op.start)
        if op.kind == READ:
            self.seen[op.key] = op.result
        elif op.kind == WRITE or op.result:
            self.seen[op.key] = op.value

    def unanswered(self, op: Op | None) -> None:
        self.unknown += 1
        if op is not None:
            self.ops.append(op)

    def history(self, lost: list[str]) -> History:
        acked = len(self.acks) + len(self.fresh_acks)
        return History(self.ops, self.acks, self.fresh_acks, acked, self.unknown, self.broken, lost, round(1000 * self.wait_s_max))


class Client:
    """One connection at a time, one operation at a time, as its own seed wants."""

    def __init__(self, recorder: Recorder, run: str, number: int, ending: asyncio.Event) -> None:
        self.recorder, self.run, self.number, self.ending = recorder, run, number, ending
        self._random = random.Random(f"{run}/{number}")
        self._count = itertools.count(1)

    async def work(self, pause_s: float) -> None:
        self._streams = await connect()
        while not self.ending.is_set():
            try:
                await self.one_operation()
            except (OSError, EOFError, ValueError, asyncio.TimeoutError, Unanswered):
                self.recorder.broken += 1
                self._streams[1].close()
                if self.ending.is_set():
                    return
                self._streams = await connect()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self.ending.wait(), pause_s * self._random.uniform(0.5, 1.5))
        self._streams[1].close()

    async def one_operation(self) -> None:
        value, key = f"{self.number}-{next(self._count)}", f"{self.run}:k{self._random.randrange(KEYS)}"
        expected = self.recorder.seen.get(key)
        choice = self._random.random()
        if choice < 0.2:
            await self._ledger(f"{self.run}:l{value}", value)
        elif choice < 0.5 or expected is None:
            await self._register(Op(self.number, key, WRITE, 0.0, value=value), command("SET", key, value))
        elif choice < 0.75:
            words = command("EVAL", CAS_SCRIPT, "1", key, str(expected), value)
            await self._register(Op(self.number, key, CAS, 0.0, value=value, expected=expected), words)
        else:
            await self._register(Op(self.number, key, READ, 0.0), command("GET", key))

    async def _register(self, op: Op, words: bytes) -> None:
        op = op._replace(start=time.monotonic())
        try:
            result = await asyncio.wait_for(self._answer(op.kind, words), OP_TIMEOUT_S)
        except BaseException:  # also if we are cancelled: it was sent, perhaps
            self.recorder.unanswered(op._replace(end=UNKNOWN))
            raise
        self.recorder.done(op._replace(end=time.monotonic(), result=result))

    async def _answer(self, kind: str, words: bytes) -> object:
        reader, writer = self._streams
        writer.write(words)
        if kind == READ:
            return await bulk(reader)
        line = await reader.readline()
        if line not in ((b"+OK\r\n",) if kind == WRITE else (b":0\r\n", b":1\r\n")):
            raise Unanswered(line)
        return line == b":1\r\n" if kind == CAS else None

    async def _ledger(self, key: str, value: str) -> None:
        began = time.monotonic()
        try:
            await asyncio.wait_for(self._answer(WRITE, command("SET", key, value)), OP_TIMEOUT_S)
        except BaseException:
            self.recorder.unanswered(None)
            raise
        now = time.monotonic()
        self.recorder.ledger[key] = value
        self.recorder.acks.append(now)
        self.recorder.wait_s_max = max(self.recorder.wait_s_max, now - began)


async def fresh_client(recorder: Recorder, run: str, ending: asyncio.Event) -> None:
    """A new connection for each write, whether the ones before got an answer or not: what a newcomer sees."""
    tasks: set[asyncio.Task] = set()
    for n in itertools.count(1):
        if ending.is_set():
            break
        if len(tasks) < FRESH_OPEN_MAX:
            task = asyncio.get_running_loop().create_task(fresh_write(recorder, f"{run}:f{n}", str(n)))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(ending.wait(), FRESH_EVERY_S)
    if tasks:
        await asyncio.wait(tasks, timeout=FRESH_TIMEOUT_S + 1)


async def fresh_write(recorder: Recorder, key: str, value: str) -> None:
    async def ask() -> bytes:
        reader, writer = await asyncio.open_connection(SERVICE_IP, SERVICE_PORT)
        try:
            writer.write(command("SET", key, value))
            return await reader.readline()
        finally:
            writer.close()

    try:
        if await asyncio.wait_for(ask(), FRESH_TIMEOUT_S) != b"+OK\r\n":
            raise Unanswered(key)
    except (OSError, asyncio.TimeoutError, Unanswered):
        recorder.unanswered(None)
    else:
        recorder.ledger[key] = value
        recorder.fresh_acks.append(time.monotonic())


async def read_back(recorder: Recorder, run: str) -> list[str]:
    """Every key over a new connection: registers become operations of the history; returns ledger keys that are lost."""
    reader, writer = await connect()
    for key in (f"{run}:k{n}" for n in range(KEYS)):
        began = time.monotonic()
        writer.write(command("GET", key))
        value = await asyncio.wait_for(bulk(reader), OP_TIMEOUT_S)
        recorder.ops.append(Op(-1, key, READ, began, time.monotonic(), result=value))
    lost, wanted = [], list(recorder.ledger.items())
    for start in range(0, len(wanted), PIPELINE):
        batch = wanted[start : start + PIPELINE]
        writer.write(b"".join(command("GET", key) for key, _ in batch))
        for key, value in batch:
            if await asyncio.wait_for(bulk(reader), OP_TIMEOUT_S) != value:
                lost.append(key)
    writer.close()
    return lost


async def play(run: str, clients: int, rate: float, out: Path) -> None:
    recorder, ending = Recorder(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ending.set)
    loop.call_later(DURATION_S_MAX, ending.set)
    tasks = [loop.create_task(Client(recorder, run, n, ending).work(1 / rate)) for n in range(clients)]
    tasks.append(loop.create_task(fresh_client(recorder, run, ending)))
    while not ending.is_set() and not any(task.done() for task in tasks):  # a client that fails ends the load
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(ending.wait(), 0.2)
        print(len(recorder.acks), flush=True)
    ending.set()
    await asyncio.gather(*tasks)
    dump(recorder.history(await read_back(recorder, run)), out)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", required=True, help="prefix of this round's keys")
    parser.add_argument("--clients", type=int, default=6)
    parser.add_argument("--rate", type=float, default=30.0, help="operations per second and client, at most")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    asyncio.run(play(options.run, options.clients, options.rate, options.out))
    return 0


if __name__ == "__main__":
    sys.exit(main())
