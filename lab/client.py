# SPDX-License-Identifier: GPL-3.0-or-later
"""Clients that write all the time, and know exactly which writes were acknowledged.

Runs in the client's namespace: `python3 -m lab.client --out FILE`; SIGTERM ends the load, then every acknowledged key is
read back. A write counts as acknowledged only on +OK; one without an answer is unknown, never acknowledged.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import signal
import sys
import time
from pathlib import Path

from .hosts import SERVICE_IP, SERVICE_PORT

DURATION_S_MAX = 600.0
READ_TIMEOUT_S = 30.0
PIPELINE = 256


class History:
    """Accounting only: no socket, no clock."""

    def __init__(self) -> None:
        self.acked: dict[str, str] = {}
        self.ack_times: list[float] = []
        self.unknown = self.broken = 0

    def answer(self, key: str, value: str, line: bytes, now: float) -> None:
        """The answer to SET key value."""
        if line == b"+OK\r\n":
            self.acked[key] = value
            self.ack_times.append(now)
        else:
            self.unknown += 1

    def gap_ms(self) -> int:
        """The longest time without any acknowledgement."""
        times = sorted(self.ack_times)
        return round(1000 * max((b - a for a, b in zip(times, times[1:])), default=0.0))


def command(*words: str) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w.encode()), w.encode()) for w in words)


async def connect() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Retries a refused connection, for as long as it would wait for an answer."""
    end = time.monotonic() + READ_TIMEOUT_S
    while True:
        try:
            return await asyncio.wait_for(asyncio.open_connection(SERVICE_IP, SERVICE_PORT), READ_TIMEOUT_S)
        except OSError:
            if time.monotonic() > end:
                raise
            await asyncio.sleep(0.2)


async def writer_client(history: History, number: int, pause_s: float, ending: asyncio.Event) -> None:
    reader, writer = await connect()
    n = 0
    while not ending.is_set():
        n += 1
        key, value = f"c{number}:{n}", f"{number}-{n}-" + "x" * 64
        try:
            writer.write(command("SET", key, value))
            history.answer(key, value, await asyncio.wait_for(reader.readline(), READ_TIMEOUT_S), time.monotonic())
            if reader.at_eof():
                raise ConnectionResetError("closed by the server")
        except (OSError, asyncio.TimeoutError):
            history.unknown += 1
            history.broken += 1
            writer.close()
            reader, writer = await connect()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(ending.wait(), pause_s)
    writer.close()


async def bulk(reader: asyncio.StreamReader) -> bytes | None:
    """One answer to GET; None if the key is not there."""
    head = await reader.readline()
    if head.startswith(b"$") and head != b"$-1\r\n":
        return (await reader.readexactly(int(head[1:]) + 2))[:-2]
    return None


async def verify(history: History) -> int:
    """Reads every acknowledged key over a fresh connection; returns the number of missing keys."""
    reader, writer = await connect()
    lost, wanted = 0, list(history.acked.items())
    for start in range(0, len(wanted), PIPELINE):  # each answer waits for a syncvm: ask for many at once
        batch = wanted[start : start + PIPELINE]
        writer.write(b"".join(command("GET", key) for key, _ in batch))
        for _, value in batch:
            lost += await asyncio.wait_for(bulk(reader), READ_TIMEOUT_S) != value.encode()
    writer.close()
    return lost


async def run(clients: int, rate: float, seconds: float, out: Path) -> None:
    history, ending = History(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ending.set)
    loop.call_later(seconds, ending.set)
    tasks = [loop.create_task(writer_client(history, n, 1 / rate, ending)) for n in range(clients)]
    while not ending.is_set() and not any(task.done() for task in tasks):  # a client that fails ends the load
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(ending.wait(), 1.0)
        print(json.dumps({"acked": len(history.acked)}), flush=True)
    ending.set()
    await asyncio.gather(*tasks)
    lost = await verify(history)
    out.write_text(
        json.dumps(
            {
                "acked": len(history.acked),
                "lost": lost,
                "outage_ms": history.gap_ms(),
                "connections_broken": history.broken,
                "unknown": history.unknown,
            }
        )
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--rate", type=float, default=50.0, help="writes per second and client, at most")
    parser.add_argument("--seconds", type=float, default=DURATION_S_MAX)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    asyncio.run(run(options.clients, options.rate, min(options.seconds, DURATION_S_MAX), options.out))
    return 0


if __name__ == "__main__":
    sys.exit(main())
