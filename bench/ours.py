# SPDX-License-Identifier: GPL-3.0-or-later
"""Plover's consensus: the real Consensus over the real PeerLinks and Store, two replicas and a witness.

Each member is the witness daemon's shell around the core, so all that a daemon does (tick, heartbeat, control socket)
goes on. The clients are in the leader's process, as the sequencer is in production, and what they hand over in one turn
of the loop is one entry of wrapped frames, as :meth:`plover.dataplane.tap.Tap.read_batch` makes it.
"""

from __future__ import annotations

import asyncio
import json
import select
import sys
import time
import zlib
from pathlib import Path

from plover import __version__
from plover.config.settings import Config
from plover.consensus.effects import LEADER
from plover.consensus.log import INPUT
from plover.dataplane.tap import BATCH_FRAMES_MAX
from plover.protocol import wire
from plover.protocol.frames import split, wrap
from plover.witness.daemon import Witness

from lab.first_boot import mark_first_boot
from lab.secret_file import secret_file

from . import processes
from .load import BenchError, ClosedLoop, Figures, Load, command_of

NAME = "plover"
DRIVEN = "clients in the leader's process, as its sequencer is; memory only, views and votes fsynced"
MEMBERS = {
    "primary": {"address": "127.0.0.1", "kind": "replica"},
    "secondary": {"address": "127.0.0.2", "kind": "replica"},
    "witness": {"address": "127.0.0.3", "kind": "witness"},
}
LEADS = "primary"
TRUNCATE_BYTES = 1 << 20  # a syncvm under load comes about this often
READY_S = 10.0


def version() -> str:
    return __version__


def run(folder: Path, loads: list[Load]) -> list[Figures]:
    """Runs three members from their start to the last load; raises BenchError if their logs differ."""
    members = {}
    try:
        for name in MEMBERS:
            spec = {"member": name, "folder": str(folder), "loads": processes.pack_loads(loads) if name == LEADS else []}
            members[name] = processes.start("bench.ours", spec, folder / f"{name}.log")
        # A line: the loads are done, and all hold the log. The end of the file: see its answer below.
        select.select([members[LEADS].stdout], [], [], processes.time_limit_s(loads))
        processes.terminate(list(members.values()))
        ends = {name: processes.answer(members[name], processes.STOP_S, folder / f"{name}.log") for name in MEMBERS}
    finally:
        processes.kill(list(members.values()))
    check(ends)
    return processes.unpack_figures(ends[LEADS]["figures"])


def check(ends: dict[str, dict]) -> None:
    """Checks that all three hold the same entries, byte for byte, with as many commands as were counted as committed."""
    logs = {name: (end["index"], end["commands"], end["crc"]) for name, end in ends.items()}
    if len(set(logs.values())) != 1:
        raise BenchError(f"the members' logs differ: (last index, commands, CRC) is {logs}")
    counted = sum(Figures(*row).total for row in ends[LEADS]["figures"])
    if counted != ends[LEADS]["commands"]:
        raise BenchError(f"{counted} commands counted as committed, {ends[LEADS]['commands']} in the log")


class Member(Witness):
    """A daemon that also looks at each entry once it is committed."""

    def __init__(self, spec: dict) -> None:
        folder = spec["folder"]
        settings = {
            "name": "bench",
            "cluster_id": "6f9619ff-8b86-4d01-b42d-00cf4fc964ff",
            "member": spec["member"],
            "members": MEMBERS,
            "preferred_leader": LEADS,
            "guest_mac": "52:54:00:00:00:01",
            "guest_kernel": "/none",
            "run_dir": f"{folder}/run-{spec['member']}",
            "state_dir": f"{folder}/state-{spec['member']}",
            "secret_file": secret_file(Path(folder)),
            # As patient as etcd is by default, on a machine that is full.
            "detection_ms": 1000,
            "peer_timeout_ms": 2000,
            "failover_budget_ms": 5000,
        }
        mark_first_boot(settings)
        super().__init__(Config(settings))
        self.loads = processes.unpack_loads(spec["loads"])
        self.consensus.eligible = bool(self.loads)
        self.figures: list[Figures] = []
        self.index = self.crc = self.commands = 0

    def _on_message(self, member: str, channel: int, message: wire.Message) -> None:
        super()._on_message(member, channel, message)
        self._advance()

    def _advance(self) -> None:
        cons = self.consensus
        while self.index < cons.commit_index:
            if self.index < cons.log.base_index:
                raise BenchError(f"entry {self.index + 1} was forgotten before it was checked")
            entry = cons.log[self.index + 1]
            self.index += 1
            self.committed(entry.payload)
            self.crc = zlib.crc32(entry.payload, zlib.crc32(f"{entry.index} {entry.view}".encode(), self.crc))

    def committed(self, payload: bytes) -> None:
        self.commands += sum(1 for _ in split(payload))

    async def teardown(self) -> None:
        await super().teardown()
        print(json.dumps({"index": self.index, "commands": self.commands, "crc": self.crc, "figures": self.figures}))


class LeadingMember(Member):
    def __init__(self, spec: dict) -> None:
        super().__init__(spec)
        self.batch: list[bytes] = []
        self.closed_loop: ClosedLoop | None = None

    async def setup(self) -> None:
        await super().setup()
        self.spawn(self._measure())

    def _heard(self) -> bool:
        return self.consensus.role == LEADER or super()._heard()  # a witness never leads, so its shell asks others only

    async def _measure(self) -> None:
        await self._until(lambda: len(self.links.links) >= 2, "links to both others", READY_S)
        while self.consensus.role != LEADER:
            self.consensus.tick(self.loop.time())
            self.run()
            await asyncio.sleep(0.02)
        heartbeats = self.spawn(self._heartbeats())
        for load in self.loads:
            self.closed_loop = ClosedLoop(load, self._submit)
            self.closed_loop.start()
            await self._until(lambda: self.closed_loop.done, "the commands' commit", processes.time_limit_s([load]))
            self.figures.append(self.closed_loop.figures())
        cons = self.consensus
        await self._until(lambda: min(cons.followers.acked_index.values()) == cons.log.last_index, "both logs", READY_S)
        heartbeats.cancel()
        print("done", flush=True)

    async def _until(self, condition, what: str, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise BenchError(f"waited {seconds:.0f} s in vain for {what}")
            await asyncio.sleep(0.01)

    async def _heartbeats(self) -> None:
        while True:
            self.consensus.tick(self.loop.time())
            self.run()
            await asyncio.sleep(0.005)

    def _submit(self, client: int, command: bytes) -> None:
        if not self.batch:
            self.loop.call_soon(self._sequence)
        self.batch.append(wrap(command))

    def _sequence(self) -> None:
        """The commands of this turn become one entry, with at most as many frames as the TAP's reader takes."""
        batch, self.batch = self.batch[:BATCH_FRAMES_MAX], self.batch[BATCH_FRAMES_MAX:]
        if self.batch:
            self.loop.call_soon(self._sequence)
        self.consensus.propose(INPUT, b"".join(batch))
        self.run()
        if self.consensus.log.bytes > TRUNCATE_BYTES:
            self.consensus.truncate_to(min(self.consensus.followers.acked_index.values()))

    def committed(self, payload: bytes) -> None:
        for frame in split(payload):
            self.commands += 1
            self.closed_loop.committed(*command_of(frame))


async def main(spec: dict) -> int:
    return await (LeadingMember if spec["loads"] else Member)(spec).serve()


if __name__ == "__main__":
    sys.exit(asyncio.run(main(json.loads(sys.argv[1]))))
