# SPDX-License-Identifier: GPL-3.0-or-later
"""One replica of `make bench-disk-link`: its links and the streams of its disks, as the daemon has them, and nothing else.

The leader offers the stream again each time one has ended, and sends a heartbeat every 10 ms, which the secondary answers. The
round trips that it has seen since the last question are its answer to a line on standard input.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from lab.paths import ROOT

sys.path.insert(0, str(ROOT / "plugins" / "module_utils"))

from plover.config.settings import Config
from plover.errors import QemuError
from plover.links import streams
from plover.links.peers import PeerLinks
from plover.protocol import wire

COPY = "a" * 32
BEAT_S = 0.01
HELD_BEATS = 100_000


class Member:
    def __init__(self, settings: dict[str, Any], export: Path) -> None:
        self._config = Config(settings)
        self.links = PeerLinks(self._config, self._heard, lambda *_: None, lambda *_: None, lambda: None)
        streams._peer_of = lambda end: 0  # the benchmark's clients are no child of ours
        self.streams = streams.Streams(self.links, self._spawn, self._export, 1)
        self._socket, self._tasks = export, set()
        self.round_trips_ms: list[float] = []
        self._sent: dict[int, float] = {}

    def _spawn(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _export(self, name: str) -> streams.Export:
        return streams.Export(self._socket, 0)

    def _heard(self, member: str, channel: int, message: wire.Message) -> None:
        if isinstance(message, wire.Heartbeat):
            self.links.send(member, wire.CONTROL, wire.HeartbeatAck(1, message.seq, 0, 0, 0))
        elif isinstance(message, wire.HeartbeatAck):
            self.round_trips_ms.append(1000 * (time.monotonic() - self._sent.pop(message.seq)))

    async def beat(self) -> None:
        for seq in range(1 << 62):
            if len(self._sent) < HELD_BEATS and self.links.has_channel("secondary", wire.DISKS):
                self._sent[seq] = time.monotonic()
                self.links.send("secondary", wire.CONTROL, wire.Heartbeat(1, seq, 0, 0, 0, 0))
            await asyncio.sleep(BEAT_S)

    async def offer(self) -> None:
        while True:
            if not self.streams.describe()["open"]:
                try:
                    await self.streams.offer("secondary", COPY, self._socket, 0, lambda path: None)
                except QemuError:
                    pass  # the server is not up yet
            await asyncio.sleep(BEAT_S)


async def main(spec: dict[str, Any]) -> None:
    member = Member(spec["settings"], Path(spec["socket"]))
    await member.links.start()
    work = []
    if spec["settings"]["member"] == "primary":
        work = [asyncio.ensure_future(member.beat()), *([asyncio.ensure_future(member.offer())] if spec["offers"] else [])]
    while await asyncio.to_thread(sys.stdin.readline):
        seen, member.round_trips_ms = member.round_trips_ms, []
        late = [1000 * (time.monotonic() - sent) for sent in member._sent.values()]  # not answered yet: at least so late
        usage = os.times()
        print(json.dumps({"round_trips_ms": seen + [each for each in late if each > 100], "cpu_s": usage.user + usage.system}), flush=True)
    for task in work:
        task.cancel()


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
