# SPDX-License-Identifier: GPL-3.0-or-later
"""The replica daemon with three additions, for tests only: it writes down digests of all guest memory at the steps
that matter, kills the leader's QEMU at the step named in the file 'fault' of its run folder, and does not end the hashing of
its images, which it notes in 'hashing', while there is a file 'hold'."""

from __future__ import annotations

import json
import os
import signal
import sys
import time

from plover.config.settings import Config
from plover.daemon.life import run_daemon
from plover.ports import effects
from plover.protocol.pages import all_pages
from plover.replica import disk_work
from plover.replica.daemon import Replica
from plover.replica.observer import Observer
from plover.syncvm import block_deltas as patches


class Watch(Observer):
    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._aborted: int | None = None  # the syncvm in which our VM stands still

    def _note(self, event: str, number: int) -> None:
        memory = self._replica.memory
        digest = memory.digest(memory.hash(all_pages(memory.pages)).tobytes())
        with open(self._replica.config.run_path / "digests", "a", encoding="utf-8") as file:
            print(json.dumps({"event": event, "number": number, "digest": f"{digest:016x}"}), file=file)

    def _fault(self, step: str) -> None:
        path = self._replica.config.run_path / "fault"
        wanted = path.read_text() if path.exists() else ""
        patches.PAGES_MIN = sys.maxsize if wanted == "StagePages" else 1  # few pages diverge here: each way must be gone
        if wanted == step and self._replica.vm and self._replica.core.leading:
            path.unlink(missing_ok=True)
            os.kill(self._replica.vm.pid, signal.SIGKILL)

    def action(self, action: object) -> None:
        self._fault(type(action.message if isinstance(action, effects.SendData) else action).__name__)
        work = self._replica.core.role.syncvm
        if isinstance(action, effects.ColoLoad) and work:
            self._note("before-load", work.number)
        if isinstance(action, effects.ContVm):
            self._aborted = None
        if isinstance(action, effects.Promote) and self._aborted is not None:
            self._note("before-promote", self._aborted)

    def event(self, name: str, arguments: tuple[object, ...]) -> None:
        work = self._replica.core.role.syncvm
        if name == "vm_stopped" and work and work.tag == arguments[0]:
            self._aborted = work.number
            self._note("stopped", work.number)
        if name in ("colo_loaded", "colo_ready"):  # the latter: another copy of the VM, filled after the one that stood still
            self._aborted = None


class WatchedReplica(Replica):
    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.observer = Watch(self)


def held_hash_blocks(config, digest, count):
    (config.run_path / "hashing").touch()
    while (config.run_path / "hold").exists():
        time.sleep(0.01)
    return hash_blocks(config, digest, count)


hash_blocks, disk_work.hash_blocks = disk_work.hash_blocks, held_hash_blocks

if __name__ == "__main__":
    run_daemon(WatchedReplica, "replica")
