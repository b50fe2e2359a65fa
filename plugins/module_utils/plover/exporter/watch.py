# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks the daemons of this host for their status, again and again, and keeps the last answers.

Requests over HTTP are answered from here: however many there are, a daemon is asked no more often.
"""

from __future__ import annotations

import asyncio
import logging
import os
import stat
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ..ctl import client
from ..errors import ControlError
from ..host import status_folder
from . import seen as look
from .seen import Sample, Seen
from .settings import NAME, VMS_MAX

log = logging.getLogger("plover")
EVERY_S = 0.5
LOOK_EVERY_S = 2.0  # for VMs that came or went
ANSWER_S = 2.0
STALE_S = 10.0  # an exporter that has not looked for so long hangs
HISTORY_S = 30.0
NEWS = ("service", "view", "role")
SAMPLES_MAX = 600  # five minutes


class Watch:
    def __init__(self, run_dir: Path, vms: tuple[str, ...]) -> None:
        """``vms``: those that are shown even if there is nothing of them here."""
        self._run_dir, self._expected = run_dir, vms
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._last: dict[str, Seen] = {}
        self._history: dict[str, list[look.Json]] = {}
        self._samples: dict[str, deque[Sample]] = {}
        self._threads = ThreadPoolExecutor(VMS_MAX, "ask")  # a daemon that hangs keeps nobody else's answer
        self._looked_at = float("-inf")
        self.problem = ""  # why this host's VMs cannot be found

    # ---- what is known ---------------------------------------------------------------------------------------------
    def all(self) -> list[Seen]:
        return [self._last[name] for name in sorted(self._last)]

    def one(self, name: str) -> Seen | None:
        return self._last.get(name)

    def history(self, name: str) -> list[look.Json]:
        return self._history.get(name, [])

    def samples(self, name: str) -> list[Sample]:
        """Figures of the last minutes, oldest first."""
        return list(self._samples.get(name, ()))

    @property
    def hangs(self) -> bool:
        return time.monotonic() - self._looked_at > STALE_S

    # ---- asking ----------------------------------------------------------------------------------------------------
    async def run(self) -> None:
        """Until cancelled."""
        try:
            while True:
                self._follow(self._names())
                self._looked_at = time.monotonic()
                await asyncio.sleep(LOOK_EVERY_S)
        finally:
            self._follow(set())
            self._threads.shutdown(wait=False)

    def _names(self) -> set[str]:
        try:
            found = sorted(name for name in os.listdir(self._run_dir) if NAME.match(name) and self._is_a_vm(name))
            problem = ""
        except OSError as error:
            found, problem = [], f"run_dir: {self._run_dir}: {error.strerror}; has a daemon of Plover ever run on this host?"
        if problem and problem != self.problem:
            log.warning("%s", problem)
        self.problem = problem
        return set(self._expected) | set(found[: VMS_MAX - len(self._expected)])

    def _is_a_vm(self, name: str) -> bool:
        """Its daemon has a status folder. It cannot be entered before it is shared, and is there all the same."""
        try:
            return stat.S_ISDIR(os.lstat(self._run_dir / name / status_folder.FOLDER).st_mode)
        except PermissionError:
            return True
        except OSError:
            return False

    def _follow(self, names: set[str]) -> None:
        for name in names - self._tasks.keys():
            self._last[name] = Seen(name, {}, "the daemon has not been asked yet", time.monotonic())
            self._samples[name] = deque(maxlen=SAMPLES_MAX)
            self._tasks[name] = asyncio.ensure_future(self._watch(name))
        for name in self._tasks.keys() - names:
            self._tasks.pop(name).cancel()
            self._last.pop(name, None)
            self._history.pop(name, None)
            self._samples.pop(name, None)

    async def _watch(self, name: str) -> None:
        known: tuple[Any, ...] = ()
        told_at = float("-inf")
        while True:
            self._last[name] = found = await self._status(name)
            self._samples[name].append(Sample.of(found))
            news, now = tuple(found.reply.get(key) for key in NEWS), time.monotonic()
            if found.answers and (news != known or now - told_at > HISTORY_S):
                known, told_at = news, now
                await self._ask_history(name)
            await asyncio.sleep(EVERY_S)

    async def _status(self, name: str) -> Seen:
        try:
            reply = await self._ask(name, "status")
        except ControlError as error:
            unit = f"systemctl status plover-replica@{name} plover-witness@{name}"
            return Seen(name, {}, f"the daemon does not answer ({error}); see '{unit}'", time.monotonic())
        why = "" if reply["ok"] else look.text(reply.get("error"))
        return Seen(name, reply if reply["ok"] else {}, why, time.monotonic())

    async def _ask_history(self, name: str) -> None:
        try:
            self._history[name] = look.entries(await self._ask(name, "history"))
        except ControlError as error:
            log.info("%s: no history: %s", name, error)

    async def _ask(self, name: str, command: str) -> dict[str, Any]:
        path = status_folder.socket_of(self._run_dir / name)
        return await asyncio.get_running_loop().run_in_executor(self._threads, client.ask, path, {"cmd": command}, ANSWER_S)
