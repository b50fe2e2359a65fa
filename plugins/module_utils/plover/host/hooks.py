# SPDX-License-Identifier: GPL-3.0-or-later
"""Tells the operator's command and URL of events, one event at a time, in a thread of its own.

Nothing depends on it, so nothing may suffer from it: events wait in a bounded queue, of which the oldest are dropped; each try is
bounded; an event that cannot be told is given up. All of that is counted, and logged once for each kind of failure.
"""

from __future__ import annotations

import json
import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from . import hook_command, webhook
from .hook_command import Failure

log = logging.getLogger("plover")
WAITING_MAX = 100
KINDS_MAX = 100  # of failures that are remembered as logged
COMMAND_PAUSES_S = (1.0,)  # before each further try
URL_PAUSES_S = (1.0, 4.0)
KILL_S = 1.0
COMMAND, URL = "on_event_command", "on_event_url"


class Waiting(NamedTuple):
    text: bytes
    environment: dict[str, str]


class Hooks:
    def __init__(self, command: list[str], url: str, timeout_s: float) -> None:
        self._command, self._url, self._timeout_s = command, url, timeout_s
        self._waiting: deque[Waiting] = deque()
        self._wake = threading.Condition()
        self._busy = self._closing = False
        self._ends = threading.Event()  # now, whatever is under way
        self._thread: threading.Thread | None = None
        self._logged: dict[str, set[str]] = {COMMAND: set(), URL: set()}
        self._told = self._failed = self._dropped = 0
        self._last_error = ""

    def put(self, event: dict[str, Any], environment: dict[str, str]) -> None:
        """Never blocks for longer than it takes to append to a queue."""
        waiting = Waiting(json.dumps(event).encode() + b"\n", environment)
        with self._wake:
            if len(self._waiting) == WAITING_MAX:
                self._waiting.popleft()
                self._dropped += 1
            self._waiting.append(waiting)
            if self._thread is None:
                # A daemon thread: a name's look-up cannot be broken off, and must not keep the process.
                self._thread = threading.Thread(target=self._work, name="hooks", daemon=True)
                self._thread.start()
            self._wake.notify()

    def describe(self) -> dict[str, Any]:
        """For the status."""
        with self._wake:
            return {
                "told": self._told,
                "failed": self._failed,
                "dropped": self._dropped,
                "waiting": len(self._waiting) + self._busy,
                "last_error": self._last_error,
            }

    def close(self, within_s: float) -> None:
        """The daemon ends: what waits is told within that time, or never. Blocks."""
        with self._wake:
            self._closing = True
            self._wake.notify()
            thread = self._thread
        if thread is None:
            return
        thread.join(within_s)
        self._ends.set()
        thread.join(KILL_S)  # it kills the command that runs
        untold = self.describe()["waiting"]
        if untold:
            log.info("hooks: this daemon ends, and %d events are not told", untold)

    # ---- the thread -----------------------------------------------------------------------------------------------
    def _work(self) -> None:
        while (event := self._next()) is not None:
            try:
                succeeds = self._tell(event)
            except Exception as error:  # a fault here must not cost the VM its daemon
                succeeds = False
                self._give_up("hooks", Failure(repr(error)[:200], again=False))
            with self._wake:
                self._told += succeeds
                self._failed += not succeeds
                self._busy = False

    def _next(self) -> Waiting | None:
        with self._wake:
            while not self._waiting and not self._closing:
                self._wake.wait()
            if self._ends.is_set() or not self._waiting:
                return None
            self._busy = True
            return self._waiting.popleft()

    def _tell(self, event: Waiting) -> bool:
        """Did all that are to be told of it take it?"""
        succeeds = True
        if self._command:
            succeeds = self._try(COMMAND, lambda: self._run(event), COMMAND_PAUSES_S)
        if self._url and not self._ends.is_set():
            succeeds = self._try(URL, lambda: webhook.post(self._url, event.text, self._timeout_s), URL_PAUSES_S) and succeeds
        return succeeds

    def _run(self, event: Waiting) -> Failure | None:
        return hook_command.run(self._command, event.text, event.environment, self._timeout_s, self._ends)

    def _try(self, setting: str, way: Callable[[], Failure | None], pauses_s: tuple[float, ...]) -> bool:
        failure = way()
        for pause_s in pauses_s:
            if failure is None or not failure.again or self._ends.wait(pause_s):
                break
            failure = way()
        if failure is not None:
            self._give_up(setting, failure)
        elif self._logged[setting]:
            self._logged[setting].clear()
            log.info("%s: works again", setting)
        return failure is None

    def _give_up(self, setting: str, failure: Failure) -> None:
        logged = self._logged.setdefault(setting, set())
        with self._wake:
            self._last_error = f"{setting}: {failure.kind}"
        if failure.kind in logged or len(logged) >= KINDS_MAX:
            return
        logged.add(failure.kind)
        detail = f": {failure.detail}" if failure.detail else ""
        log.warning("%s: %s%s; the event is given up. This is logged once; 'ploverctl status' counts", setting, failure.kind, detail)
