# SPDX-License-Identifier: GPL-3.0-or-later
"""Life cycle of both daemons: start, systemd's watchdog, background tasks, and an end that reports its reason."""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import signal
import sys
from collections.abc import Coroutine
from typing import Any

from .. import __version__
from ..config.settings import CONFIG_DIR, Config
from ..core.told_events import Standing
from ..errors import PloverError
from ..host import clock, journal
from ..host.history import History
from ..host.notify import notify
from ..host.settings_file import load
from .telling import Telling

log = logging.getLogger("plover")
ALIVE_EVERY_S = 1.0
NO_ADDRESS = (errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES)
# What is gone (a client, a QEMU, a role) is often a cycle. Python counts objects and not bytes, so it would let megabytes wait.
# Beside what is frozen there are some thousand objects: a look at them takes 1 ms.
COLLECT_EVERY_S = 10.0


class Daemon:
    """Base. An unexpected error in a task ends the daemon: no part goes on without the others."""

    def __init__(self, config: Config) -> None:
        self.config, self.loop = config, asyncio.get_running_loop()
        self.failure: BaseException | None = None
        self.ending = asyncio.Event()
        self.history = History(config.state_path)
        self._noted = asyncio.Event()
        self.telling = Telling(config, self.loop, self.standing)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._alive_at = 0.0
        self._collected_at = self.loop.time()
        self._progress_at = self.loop.time()
        self.loop.set_exception_handler(self._unexpected)

    async def setup(self) -> None: ...

    async def teardown(self) -> None: ...

    def sentence(self) -> str:
        return ""

    def standing(self) -> Standing:
        """This member's role, view and leader."""
        return Standing("", 0, None)

    def note(self, kind: str, why: str, facts: dict[str, Any]) -> None:
        """Add an entry to the history, with the time of day, and tell the operator of it. Threads do the work."""
        self.history.note(kind, why, facts)
        self._noted.set()
        self.telling.note(kind, why, facts)

    async def _write_history(self) -> None:
        while True:
            await self._noted.wait()
            self._noted.clear()
            before = self.history.error
            if not await asyncio.to_thread(self.history.flush) and not before:
                log.warning("%s", self.history.error)

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception():
            self.fail(task.exception())

    def _unexpected(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if error is None or isinstance(error, (OSError, EOFError)):
            # A connection broke in a library's own task. The code that uses the connection notices that itself.
            log.warning("%s: %r", context.get("message"), error)
        else:
            self.fail(error)

    def fail(self, error: BaseException | None) -> None:
        self.failure = self.failure or error
        self.ending.set()

    def alive(self) -> None:
        """Called by the main loop as it makes progress. Feeds systemd's watchdog, and logs if the loop was held up."""
        now = self.loop.time()
        late_ms = 1000 * (now - self._progress_at)
        self._progress_at = now
        if late_ms > self.config.detection_ms / 2:
            log.warning(
                "this daemon could not run for %.0f ms (detection_ms is %d): its host is overloaded or its disk slow",
                late_ms,
                self.config.detection_ms,
            )
        if now - self._alive_at >= ALIVE_EVERY_S:
            self._alive_at = now
            notify(f"WATCHDOG=1\nSTATUS={self.sentence()}")
        if now - self._collected_at >= COLLECT_EVERY_S:
            self._collected_at = now
            gc.collect()

    async def serve(self) -> int:
        for number in (signal.SIGTERM, signal.SIGINT):
            self.loop.add_signal_handler(number, self.ending.set)
        self.note("start", f"version {__version__} started", {})
        self.spawn(self._write_history())
        await self.setup()
        self._progress_at = self.loop.time()
        notify("READY=1")
        gc.collect()
        gc.freeze()  # these objects stay, so the collector need not look at them again
        await self.ending.wait()
        notify("STOPPING=1")
        for task in list(self._tasks):
            task.cancel()
        await self.teardown()
        await self.telling.close()
        self.history.flush()
        if self.failure:
            raise self.failure
        return 0


def run_daemon(kind: type[Daemon], seat: str) -> None:
    """``main`` of a daemon: NAME (or a settings file) as the only argument."""
    stderr = journal.begin()
    if len(sys.argv) != 2:
        raise SystemExit(f"usage: plover-{seat} NAME | SETTINGS-FILE")
    path = sys.argv[1] if "/" in sys.argv[1] else CONFIG_DIR / f"{sys.argv[1]}.json"

    async def main() -> int:
        asyncio.get_running_loop().time = clock.now  # type: ignore[method-assign]  # before the first timer
        config = load(path)
        if config.kind != seat:
            raise PloverError(f"{path}: member {config.member!r} is a {config.kind}; start plover-{config.kind} here")
        daemon = kind(config)
        journal.attach(stderr, lambda: {"SYSLOG_IDENTIFIER": f"plover-{seat}", **daemon.telling.fields()})
        return await daemon.serve()

    try:
        raise SystemExit(asyncio.run(main()))
    except PloverError as error:
        log.critical("%s: %s", type(error).__name__, error)
        raise SystemExit(70) from None
    except OSError as error:
        if error.errno not in NO_ADDRESS:  # a timeout is an OSError too; it must not be taken for a wrong setting
            log.critical("the daemon ends: %s", str(error) or type(error).__name__, exc_info=True)
        else:
            log.critical("%s (port or address in use, or not of this host? see 'port' and 'members')", error)
        raise SystemExit(71) from None
