# SPDX-License-Identifier: GPL-3.0-or-later
"""`make bench-links`: links between members with TLS beside links without, over loopback, in one run.

Two processes with the daemons' own links. Bulk: pages, 1 MiB a message, over the data channel, as fast as they go. Turns: a small
message over the control channel and back. Loopback costs next to nothing, so encryption shows at its worst here; the CPU
seconds for each GiB tell what a real network's speed would cost.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import platform
import socket
import ssl
import statistics
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from plover.config.settings import Config
from plover.links.peers import PeerLinks
from plover.protocol import wire

from lab.paths import BUILD
from lab.pki import Authority

from .load import BenchError
from .machine import cpu_model

CLUSTER = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff"
MEMBERS = {
    "primary": {"address": "127.0.0.1", "kind": "replica"},
    "secondary": {"address": "127.0.0.2", "kind": "replica"},
    "witness": {"address": "127.0.0.3", "kind": "witness"},
}
CHUNK_BYTES, GIB = 1 << 20, 1 << 30
WARM_UP_CHUNKS = 64
LINK_S, ROUND_S, BEAT_S = 20.0, 300.0, 0.2
BEAT = wire.Leave
SECURITIES = ("none", "tls")


def settings(member: str, port: int, security: str, folder: Path) -> Config:
    return Config(
        {
            "name": "bench",
            "cluster_id": CLUSTER,
            "member": member,
            "members": MEMBERS,
            "preferred_leader": "primary",
            "guest_kernel": "/none",
            "guest_mac": "52:54:00:70:6c:01",
            "port": port,
            "link_security": security,
            "tls_folder": str(folder / member),
            "secret_file": str(folder / "secret"),
        }
    )


class End:
    """One member, in its own process."""

    def __init__(self, config: Config) -> None:
        self.heard: asyncio.Queue[wire.Message] = asyncio.Queue()
        self.up, self.writable = asyncio.Event(), asyncio.Event()
        self.links = PeerLinks(config, self._on_message, lambda *_: self._look(), lambda *_: None, self.writable.set)
        self.peer = next(name for name in config.replicas if name != config.member)
        self.bytes = 0

    def _look(self) -> None:
        if len(self.links.links) == 2:
            self.up.set()

    def _on_message(self, member: str, channel: int, message: wire.Message) -> None:
        if isinstance(message, wire.FillPages):
            self.bytes += len(message.payload)
        elif self.links.config.member == "secondary":
            self.links.send(member, channel, message)  # back
        elif not isinstance(message, BEAT):
            self.heard.put_nowait(message)

    async def beat(self) -> None:
        """A control link that is silent for long is dialled anew."""
        while True:
            self.links.send(self.peer, wire.CONTROL, BEAT(0))
            await asyncio.sleep(BEAT_S)

    async def bulk(self, chunks: int, payload: bytes) -> None:
        """Returns once all have arrived."""
        for number in range(chunks):
            while not self.links.writable(self.peer):
                self.writable.clear()
                await self.writable.wait()
            self.links.send(self.peer, wire.DATA, wire.FillPages(1, number, 256, payload))
            if number % 4 == 3:
                await asyncio.sleep(0)
        self.links.send(self.peer, wire.DATA, wire.Applied(1, chunks))
        await self.heard.get()

    async def turns(self, count: int) -> list[float]:
        """Microseconds, each."""
        out = []
        for number in range(count):
            began = time.perf_counter_ns()
            self.links.send(self.peer, wire.CONTROL, wire.TransferLeadership(number))
            await self.heard.get()
            out.append((time.perf_counter_ns() - began) / 1000)
        return out


def answer(config: Config, pipe: Connection) -> None:
    """The secondary's process: answers until it is told to end; at each word it tells its CPU seconds and bytes so far."""

    async def main() -> None:
        end = End(config)
        await end.links.start()
        pipe.send(None)
        while await asyncio.to_thread(pipe.recv):
            pipe.send((time.process_time(), end.bytes))
        await end.links.stop()

    asyncio.run(main())


async def measure(config: Config, pipe: Connection, chunks: int, turns: int) -> dict[str, float]:
    end, payload = End(config), os.urandom(CHUNK_BYTES)
    await end.links.start()
    await asyncio.wait_for(end.up.wait(), LINK_S)
    beat = asyncio.create_task(end.beat())
    await end.bulk(WARM_UP_CHUNKS, payload)
    pipe.send(True)
    cpu_there, bytes_there = pipe.recv()
    cpu, began = time.process_time(), time.perf_counter()
    await end.bulk(chunks, payload)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    pipe.send(True)
    cpu_after, bytes_after = pipe.recv()
    if bytes_after - bytes_there != chunks * CHUNK_BYTES:
        raise BenchError(f"{bytes_after - bytes_there} bytes came out, {chunks * CHUNK_BYTES} went in")
    if all(link.secure for link in end.links.links.values()) != (config.link_security == "tls"):
        raise BenchError("the links are not what they should be")
    latencies = await end.turns(turns)
    beat.cancel()
    await end.links.stop()
    gib = chunks * CHUNK_BYTES / GIB
    return {
        "gib_per_s": gib / seconds,
        "cpu_s_per_gib_sender": cpu / gib,
        "cpu_s_per_gib_receiver": (cpu_after - cpu_there) / gib,
        "turn_us_p50": statistics.median(latencies),
        "turn_us_p99": statistics.quantiles(latencies, n=100)[98],
    }


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((MEMBERS["secondary"]["address"], 0))
        return int(probe.getsockname()[1])


def one_round(security: str, folder: Path, chunks: int, turns: int) -> dict[str, float]:
    port, spawn = free_port(), multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    other = spawn.Process(target=answer, args=(settings("secondary", port, security, folder), theirs), daemon=True)
    other.start()
    try:
        if not ours.poll(LINK_S):
            raise BenchError("the other process does not start")
        ours.recv()
        found = asyncio.run(asyncio.wait_for(measure(settings("primary", port, security, folder), ours, chunks, turns), ROUND_S))
        ours.send(False)
        other.join(LINK_S)
        return found
    finally:
        other.kill()


def certificates(folder: Path) -> None:
    authority = Authority(CLUSTER)
    for member in MEMBERS:
        authority.give(folder / member, member)
    (folder / "secret").touch(0o600)
    (folder / "secret").write_text("a" * 64 + "\n")


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.links", description=__doc__.splitlines()[0])
    parser.add_argument("--mib", type=int, default=2048, help="sent in each round")
    parser.add_argument("--turns", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=BUILD / "bench")
    options = parser.parse_args(arguments)
    if options.mib < 1 or options.rounds < 1 or options.turns < 2:
        parser.error("mib and rounds must be positive, turns at least 2")
    return options


def main() -> int:
    options = parse(sys.argv[1:])
    runs: dict[str, list[dict[str, float]]] = {security: [] for security in SECURITIES}
    with tempfile.TemporaryDirectory() as folder:
        certificates(Path(folder))
        for number in range(options.rounds):
            for security in SECURITIES:
                runs[security].append(one_round(security, Path(folder), options.mib, options.turns))
            print(f"round {number + 1} of {options.rounds}", flush=True)
    found = result(runs)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "links.json").write_text(json.dumps(found, indent=2) + "\n")
    print("\n".join(table(found)))
    return 0


def result(runs: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """The medians, and how many times as much each is with TLS: the median of the ratios of single rounds."""
    keys = list(runs["none"][0])
    return {
        "machine": {"cpu": cpu_model(), "cores": os.cpu_count(), "kernel": platform.release(), "openssl": ssl.OPENSSL_VERSION},
        **{security: {key: round(statistics.median(run[key] for run in runs[security]), 3) for key in keys} for security in SECURITIES},
        "tls_vs_none": {
            key: round(statistics.median(tls[key] / none[key] for tls, none in zip(runs["tls"], runs["none"])), 3) for key in keys
        },
        "runs": runs,
    }


def table(found: dict[str, Any]) -> list[str]:
    rows = [f"{'':24}{'none':>10}{'tls':>10}{'tls / none':>12}"]
    rows += [f"{key:24}{found['none'][key]:10.3f}{found['tls'][key]:10.3f}{ratio:12.2f}" for key, ratio in found["tls_vs_none"].items()]
    return rows


if __name__ == "__main__":
    raise SystemExit(main())
