# SPDX-License-Identifier: GPL-3.0-or-later
"""The replica daemon with a VM without a guest: the benchmark takes the place of QEMU's stream netdev on its UNIX socket.

Everything between the TAP and that socket is the real daemon: its loop, the core, the links, the log, the guard, syncvms.
The VM's own operations are not measured, so they cost nothing: it stops, saves and loads at once, is idle whenever it has
read its input, and never writes to its memory.

``SIGUSR1`` begins a profile, ``SIGUSR2`` ends it and writes it into the file 'profile' of the run folder.
"""

from __future__ import annotations

import cProfile
import json
import os
import pstats
import signal
from pathlib import Path

from plover.config.settings import Config
from plover.daemon.life import run_daemon
from plover.native.guest_memory import GuestMemory
from plover.qemu.vm import Vm
from plover.replica import vm_worker
from plover.replica.daemon import Replica

SOCKET = "vm.sock"
DEVICE = bytes(60_000)  # about as long as a real one
STREAM = bytes(300_000)


class Idle:
    undisturbed = True

    def disturb(self) -> None: ...

    def close(self) -> None: ...

    async def wait(self, limit_s: float) -> bool:
        return True


class Untouched:
    """A dirty tracker of a memory that nobody writes to."""

    backend = "none"

    def fetch(self, bitmap: bytearray, stopped: bool = False) -> int:
        return 0

    def close(self) -> None: ...


class UntouchedMemory(GuestMemory):
    async def track(self, backend: str, pid: int, uffd_file: Path) -> None:
        self._tracker = Untouched()


class NoDisks:
    async def peer_error(self) -> str:
        return ""


class SocketVm(Vm):
    async def start(self, incoming: bool, view: int = 0) -> dict:
        self.config.run_path.mkdir(parents=True, exist_ok=True)
        with open(self.config.ram_path, "wb") as file:
            file.truncate(self.config.guest_pages * 4096)
        self.pid, self._monitor, self._block = os.getpid(), Idle(), NoDisks()
        await self.network.connect(str(Path(self.config.run_dir).parent / SOCKET))
        return {"qemu_version": "none"}

    async def stop(self) -> None:
        self.network.read()

    colo_stop = stop

    async def cont(self) -> None: ...

    async def save_device(self) -> bytes:
        return DEVICE

    async def capture_stream(self) -> bytes:
        return STREAM

    async def feed_stream(self, stream: bytes) -> None: ...

    async def reset(self) -> None: ...

    async def colo_load(self, state: bytes, runs: bool = True, reset: bool = True) -> None: ...

    async def promote(self, view: int = 0) -> None: ...

    async def kill(self) -> None:
        self._detach()


class InputReplica(Replica):
    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.memory = UntouchedMemory(config.guest_pages, config.syncvm_hash_threads)
        self._profile = cProfile.Profile()

    async def setup(self) -> None:
        self.loop.add_signal_handler(signal.SIGUSR1, lambda: self._profile.enable())
        self.loop.add_signal_handler(signal.SIGUSR2, self._write_profile)
        await super().setup()

    def _write_profile(self) -> None:
        self._profile.disable()
        rows = [
            [Path(file).name, line, name, calls, own, cumulated]
            for (file, line, name), (_, calls, own, cumulated, _) in pstats.Stats(self._profile).stats.items()
        ]
        part = self.config.run_path / "profile.new"
        part.write_text(json.dumps(rows))
        part.rename(self.config.run_path / "profile")
        self._profile = cProfile.Profile()


if __name__ == "__main__":
    vm_worker.Vm = SocketVm
    run_daemon(InputReplica, "replica")
