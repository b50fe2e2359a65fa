# SPDX-License-Identifier: GPL-3.0-or-later
"""A member of a group without a VM, for the RDMA guests: the witness daemon's shell around the real consensus, links, rings
and store, that also leads, and proposes numbered entries as fast as the last is committed. What happens is told on stdout, a
JSON line each: {"leads": view}, {"committed": n}, {"rings": ...}; at SIGTERM {"log": [n, ...]}: all it held as committed.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from plover.config.settings import Config
from plover.consensus.effects import LEADER
from plover.consensus.log import INPUT
from plover.witness.daemon import Witness

from lab.first_boot import mark_first_boot
from lab.secret_file import secret_file

TRUNCATE_AFTER = 200


class Node(Witness):
    def __init__(self, spec: dict) -> None:
        settings = {
            "name": "node",
            "cluster_id": "6f9619ff-8b86-4d01-b42d-00cf4fc964ff",
            "member": spec["member"],
            "members": spec["members"],
            "preferred_leader": spec["preferred"],
            "guest_mac": "52:54:00:00:00:01",
            "guest_kernel": "/none",
            "run_dir": f"{spec['folder']}/run",
            "state_dir": f"{spec['folder']}/state",
            "secret_file": secret_file(Path(spec["folder"])),
            **spec["settings"],
        }
        mark_first_boot(settings)
        super().__init__(Config(settings))
        self.preferred = spec["member"] == spec["preferred"]
        self.entry_bytes = spec.get("entry_bytes", 100)
        self.index = self.number = 0
        self.held: list[int] = []
        self.told = 0
        self.led: int | None = None

    async def setup(self) -> None:
        await super().setup()
        self.spawn(self._go_on())

    def tell(self, **what: object) -> None:
        print(json.dumps(what), flush=True)

    def _heard(self) -> bool:
        return self.consensus.role == LEADER or super()._heard()

    async def _go_on(self) -> None:
        cons, rings = self.consensus, None
        while True:
            cons.eligible = self.config.kind == "replica" and (self.preferred or cons.record.version > 0)
            cons.tick(self.loop.time())
            self.run()
            leads = cons.view if cons.role == LEADER else None
            if leads != self.led:
                self.led = leads
                self.tell(leads=leads)
                if leads:
                    cons.propose_record(frozenset(self.config.replicas))
                    self.number = max(self.held, default=0)
                    self._propose()
            if self.rings and rings != (rings := self.rings.describe()):
                self.tell(rings=rings)
            await asyncio.sleep(0.005)

    def _propose(self) -> None:
        cons = self.consensus
        if cons.role != LEADER or cons.view != self.led or cons.log.last_index > cons.commit_index:
            return
        self.number += 1
        cons.propose(INPUT, b"%d " % self.number + bytes(self.entry_bytes))
        super().run()

    def run(self) -> None:
        super().run()
        self._advance()

    def _advance(self) -> None:
        """What is committed: told by a leader, kept by all."""
        cons, before = self.consensus, self.index
        while self.index < cons.commit_index:
            self.index += 1
            if self.index <= cons.log.base_index:
                continue
            number = int(cons.log[self.index].payload.split(b" ", 1)[0])
            self.held.append(number)
            if cons.role == LEADER:
                self.tell(committed=number)
        if self.index > before and cons.role == LEADER:
            if cons.log.last_index - cons.log.base_index > TRUNCATE_AFTER:
                cons.truncate_to(min(self.index, *cons.followers.acked_index.values()))
            self.loop.call_soon(self._propose)

    def settle(self) -> None:
        self._advance()

    async def teardown(self) -> None:
        self.tell(log=self.held, rings=self.rings and self.rings.describe(), view=self.consensus.view)
        await super().teardown()


async def main(spec: dict) -> int:
    return await Node(spec).serve()


if __name__ == "__main__":
    sys.exit(asyncio.run(main(json.loads(sys.argv[1]))))
