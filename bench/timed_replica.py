# SPDX-License-Identifier: GPL-3.0-or-later
"""The replica daemon, which also notes the time of each part of a syncvm: a line of JSON per syncvm in the file 'parts' of
its run folder. Times are on the machine's monotonic clock, so two daemons on one machine can be compared.

It differs in one thing: both sides wait until their VM is idle, and the secondary does not try shorter waits
(syncvm/quiesce.py). So both VMs have done the same writes, and the figures show the work alone.
"""

from __future__ import annotations

import functools
import json
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from plover.config.settings import Config
from plover.daemon.life import run_daemon
from plover.ports import effects
from plover.protocol import wire
from plover.qemu.vm import Vm
from plover.replica.daemon import Replica
from plover.syncvm import leader, secondary
from plover.syncvm.figures import Figures

MEMORY = (
    "fetch_dirty",
    "union",
    "hash",
    "hash_blocks",
    "compare",
    "gather",
    "block_masks",
    "gather_blocks",
    "patched",
    "apply",
    "digest",
    "bitmap_of",
)
PACKING = (leader, ("pack_bitmap", "unpack_bitmap", "pack_state")), (secondary, ("pack_bitmap", "unpack_bitmap"))
OPERATIONS = ("stop", "save_device", "cont", "colo_stop", "colo_load")


class TimedReplica(Replica):
    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._number = 0
        self._watched: Vm | None = None
        self._ms: dict[str, float] = defaultdict(float)
        self._at: dict[str, float] = {}
        for owner, names in ((self.memory, MEMORY), *PACKING):
            for name in names:
                setattr(owner, name, self._timed(name, getattr(owner, name)))
        self.vms.holder.write = self._timed("holder_note", self.vms.holder.write)
        self._send, self.links.send = self.links.send, self._send_noted
        self._untimed, self.vms.perform = self.vms.perform, self._perform
        drain = self._actions[effects.Drain]
        self._actions[effects.Drain] = lambda action: drain(action._replace(limit_s=None))

    def _timed(self, name: str, work: Callable) -> Callable:
        @functools.wraps(work)
        def timed(*arguments: Any, **options: Any) -> Any:
            began = time.perf_counter()
            try:
                return work(*arguments, **options)
            finally:
                self._ms[name] += 1000 * (time.perf_counter() - began)

        return timed

    def _send_noted(self, to: str, channel: int, message: wire.Message) -> None:
        self._note(channel, "sent", message)
        self._send(to, channel, message)

    def _note(self, channel: int, what: str, message: wire.Message) -> None:
        if channel == wire.DATA:
            self._at.setdefault(f"{what} {type(message).__name__}", self.loop.time())

    async def setup(self) -> None:
        await super().setup()
        self._record, self.core.record_figures = self.core.record_figures, self._record_and_write

    def _record_and_write(self, figures: Figures) -> None:
        self._write(figures.number)
        self._record(figures)

    def _write(self, number: int) -> None:
        line = {"number": number, "ms": dict(self._ms), "at": self._at}
        with open(self.config.run_path / "parts", "a", encoding="utf-8") as file:
            print(json.dumps(line), file=file)
        self._ms.clear()
        self._at = {}

    def _on_message(self, member: str, channel: int, message: wire.Message) -> None:
        self._note(channel, "got", message)
        super()._on_message(member, channel, message)

    def answer(self, event: str, *arguments: object) -> None:
        self._at.setdefault(event, self.loop.time())
        if event == "vm_stopped" and self.core.role.syncvm:
            self._number = self.core.role.syncvm.number
        super().answer(event, *arguments)
        if event == "colo_loaded" and not self.core.leading:
            self._write(self._number)

    async def _watch(self, vm: Vm) -> None:
        """When QEMU itself says that its VM stood still and ran on, by the time of day."""
        with vm.qmp.listening("STOP", "RESUME") as listener:
            while True:
                event = await listener.get()
                stamp = event["timestamp"]
                self._at[event["event"]] = stamp["seconds"] + stamp["microseconds"] / 1e6

    async def _perform(self, vm: Vm, action: object) -> None:
        for name in OPERATIONS:  # an operation by itself: what it is answered with is more than that
            if name not in vars(vm):
                setattr(vm, name, self._timed_operation(name, getattr(vm, name)))
        if vm.pid and self._watched is not vm:
            self._watched = vm
            self.spawn(self._watch(vm))
        await self._untimed(vm, action)

    def _timed_operation(self, name: str, work: Callable) -> Callable:
        @functools.wraps(work)
        async def timed(*arguments: Any) -> Any:
            began = time.perf_counter()
            try:
                return await work(*arguments)
            finally:
                self._ms[name] += 1000 * (time.perf_counter() - began)

        return timed


if __name__ == "__main__":
    run_daemon(TimedReplica, "replica")
