# SPDX-License-Identifier: GPL-3.0-or-later
"""A host with several VMs: real settings files, and real control servers in a thread that tell what a test says."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from plover.ctl import commands as ctl
from plover.daemon.control_server import ControlServer
from settings import settings

from lab.paths import ROOT

RUNTIME = ROOT / "plugins" / "module_utils"
LEADER = {
    "service": "protected",
    "role": "leader",
    "leader": "primary",
    "sentence": "leading; secondary is in sync and can take over at any moment",
    "in_sync": ["primary", "secondary"],
    "view": 3,
    "name": "demo",
    "member": "primary",
    "log_index": 7,
    "reason": "",
    "since": 7384.0,
    "totals": {"syncvms": 100, "dirty_pages": 4000, "divergent_pages": 50, "bytes": 9000},
    "counters": {"sent_bytes": {"pages": 1 << 20, "hashes": 4096}, "last_syncvm_age_s": 0.25},
    "last_syncvm": {"pause_ms": 2.5, "dirty_pages": 812, "divergent_pages": 33, "same_page_percent": 95.9, "bytes": 90},
    "syncvms": 100,
    "held": {"bytes": 1536, "age_s": 0.01},
}
# Its first argument is the folder of the settings.
PLOVERCTL = (
    "import sys; from pathlib import Path; from plover.ctl import commands; "
    "commands.CONFIG_DIR = Path(sys.argv[1]); raise SystemExit(commands.main(sys.argv[2:]))"
)


class Says:
    def __init__(self, status: dict) -> None:
        self.status = status
        self.asked = lambda: None  # called before each answer

    async def operator(self, request: dict) -> dict:
        self.asked()
        return dict(self.status)


class Daemons:
    """``folder`` holds settings, sockets and states."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._listeners, self._servers = folder, [], []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    def settled(self, name: str, **more) -> Path:
        """A VM without a daemon; the folder of its state."""
        values = settings("primary", name=name, run_dir=str(self.folder), state_dir=str(self.folder / "state"), **more)
        (self.folder / f"{name}.json").write_text(json.dumps(values))
        state = self.folder / "state" / name
        state.mkdir(parents=True, exist_ok=True)
        return state

    def serve(self, name: str, settled: dict | None = None, **status) -> Says:
        self.settled(name, **(settled or {}))
        says = Says({**LEADER, "name": name, **status})
        server = ControlServer(self.folder / name / "ctl.sock", says)
        asyncio.run_coroutine_threadsafe(server.start(), self._loop).result(5)
        self._servers.append(server)
        return says

    def hang(self, name: str) -> None:
        """A daemon that takes requests and never answers."""
        self.settled(name)
        (self.folder / name).mkdir()
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self.folder / name / "ctl.sock"))
        listener.listen()
        self._listeners.append(listener)

    async def _end(self) -> None:
        for server in self._servers:
            server._server.close()
        await asyncio.sleep(0.01)  # whoever has just connected is served by a task, too
        serving = asyncio.all_tasks() - {asyncio.current_task()}
        for task in serving:
            task.cancel()
        if serving:
            await asyncio.wait(serving)
        await asyncio.sleep(0.01)  # and each connection is closed a turn later

    def close(self) -> None:
        for listener in self._listeners:
            listener.close()
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@pytest.fixture
def daemons(folder, monkeypatch):
    monkeypatch.setattr(ctl, "CONFIG_DIR", folder)
    out = Daemons(folder)
    yield out
    out.close()


def ploverctl(folder: Path, *words: str, python: tuple[str, ...] = (), **more) -> subprocess.Popen:
    """A process of its own, which Ctrl-C ends even where a shell has started the tests in the background, and so without it."""
    env = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "NO_COLOR", "FORCE_COLOR")}
    env |= {"PYTHONPATH": str(RUNTIME), "TERM": "xterm-256color"}
    argv = [sys.executable, *python, "-c", PLOVERCTL, str(folder), *words]
    heeds = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen(argv, env=env, text=True, preexec_fn=heeds, **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more})
