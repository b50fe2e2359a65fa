# SPDX-License-Identifier: GPL-3.0-or-later
"""The replica daemon with three additions, for tests only: it writes down digests of all guest memory at the steps
that matter, kills its own QEMU at the step named in the file 'fault' of its run folder, and does not end the hashing of
its images, which it notes in 'hashing', while there is a file 'hold'."""
from __future__ import annotations

import json
import os
import signal
import sys
import time

from plover.daemon.life import run_daemon
from plover.ports import effects as act
from plover.protocol.pages import all_pages
from plover.replica import disk_work
from plover.replica.daemon import Replica
from plover.syncvm import block_deltas as patches


class WatchedReplica(Replica):
    def _note(self, event: str, number: int) -> None:
        digest = self.memory.digest(self.memory.hash(all_pages(self.memory.pages)).tobytes())
        with open(self.config.run_path / "digests", "a", encoding="utf-8") as file:
            print(json.dumps({"event": event, "number": number, "digest": f"{digest:016x}"}), file=file)

    def _fault(self, step: str) -> None:
        path = self.config.run_path / "fault"
        wanted = path.read_text() if path.exists() else ""
        patches.PAGES_MIN = sys.maxsize if wanted == "StagePages" else 1  # few pages diverge here: each way must be gone
        if wanted == step and self.vm:
            path.unlink()
            os.kill(self.vm.pid, signal.SIGKILL)

    def run(self) -> None:
        if not self._executing:
            actions = self.core.take()
            for action in actions:
                name = type(action.message if isinstance(action, act.SendData) else action).__name__
                self._fault(name)
                work = self.core.role.syncvm
                if isinstance(action, act.ColoLoad) and work:
                    self._note("before-load", work.number)
                if isinstance(action, act.Promote) and self.aborted is not None:
                    self._note("before-promote", self.aborted)
            self.core._out = actions + self.core._out
        super().run()

    aborted: int | None = None  # the syncvm in which our VM stands still

    def answer(self, event: str, *arguments: object) -> None:
        work = self.core.role.syncvm
        if event == "vm_stopped" and work and work.tag == arguments[0]:
            self.aborted = work.number
            self._note("stopped", work.number)
        if event == "colo_loaded":
            self.aborted = None
        super().answer(event, *arguments)


def held_hash_blocks(config, digest):
    (config.run_path / "hashing").touch()
    while (config.run_path / "hold").exists():
        time.sleep(0.01)
    return hash_blocks(config, digest)


hash_blocks, disk_work.hash_blocks = disk_work.hash_blocks, held_hash_blocks

if __name__ == "__main__":
    run_daemon(WatchedReplica, "replica")
