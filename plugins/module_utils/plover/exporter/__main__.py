# SPDX-License-Identifier: GPL-3.0-or-later
"""``python3 -m plover.exporter [SETTINGS-FILE]``: plover-exporter. ``--check FILE`` only checks the settings; ``--prepare``, as root,
shares the daemons' status folders with its group."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from pathlib import Path

from ..errors import ConfigError, PloverError
from ..host.console import complain
from ..host.notify import notify
from . import client_library, settings
from .certificates import Certificates
from .prepare import prepare
from .routes import Routes
from .settings import Settings
from .watch import Watch
from .web_server import WebServer

log = logging.getLogger("plover")
ALIVE_S = 2.0


def load(path: Path) -> Settings:
    try:
        with open(path, "rb") as file:
            text = file.read(settings.BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); run the play with role monitoring to write it") from error
    if len(text) > settings.BYTES_MAX:
        raise ConfigError(f"{path}: is over {settings.BYTES_MAX} bytes; run the play with role monitoring to write it anew")
    return settings.parse(text, path)


async def serve(given: Settings) -> None:
    """Until SIGTERM or SIGINT. Raises ConfigError or OSError if it cannot begin."""
    client_library.check()
    if os.geteuid() == 0:
        log.warning("plover-exporter runs as root and need not: start it by its unit, as user plover-exporter")
    watch, tls = Watch(Path(given.run_dir), given.vms), Certificates(given) if given.transport == settings.TLS else None
    if tls:
        tls.context()
    server = WebServer(Routes(watch).answer, tls.context if tls else None)
    server.listen(given.listen_address, given.listen_port)
    log.info("listening on %s port %d", given.listen_address, server.port)
    ending = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ending.set)
    tasks = [asyncio.ensure_future(work) for work in (watch.run(), server.run(), _say_alive(watch))]
    notify("READY=1")
    ended = asyncio.ensure_future(ending.wait())
    await asyncio.wait([ended, *tasks], return_when=asyncio.FIRST_COMPLETED)
    for task in (ended, *tasks):
        task.cancel()
    for result in await asyncio.gather(ended, *tasks, return_exceptions=True):
        if isinstance(result, Exception):
            raise result


async def _say_alive(watch: Watch) -> None:
    """Feeds systemd's watchdog, as long as the daemons are being asked."""
    while True:
        await asyncio.sleep(ALIVE_S)
        if not watch.hangs:
            notify("WATCHDOG=1")


def main(argv: list[str]) -> int:
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
    words = [word for word in argv if word not in ("--prepare", "--check")]
    if len(words) > 1 or len(argv) - len(words) > 1 or any(word.startswith("-") for word in words):
        complain("usage: plover-exporter [--check | --prepare] [SETTINGS-FILE]")
        return 2
    try:
        given = load(Path(words[0]) if words else settings.PATH)
        if "--prepare" in argv:
            prepare(Path(given.run_dir))
        elif "--check" not in argv:
            asyncio.run(serve(given))
    except PloverError as error:
        complain(error)
        return 70
    except OSError as error:
        complain(f"listen_address: {error} (port or address in use, or not of this host?)")
        return 71
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
