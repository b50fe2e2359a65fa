# SPDX-License-Identifier: GPL-3.0-or-later
"""The daemon's status and history for plover-exporter, on a socket of its own.

Its client is not root. So nothing here reaches the operator's commands: a request is one of two words, and whatever else comes is
refused. A client costs the daemon little, whatever it does: a status is made at most every FRESH_S, for all clients together.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from ..host import history, status_folder

CLIENTS_MAX = 4
LINE_BYTES_MAX = 256
IDLE_S = 60.0
DRAIN_S = 5.0
FRESH_S = 0.2
PACE_S = 0.05  # between two replies to one client
HISTORY_BYTES_MAX = 128 << 10
Reply = dict[str, Any]


class StatusServer:
    def __init__(self, run_path: Path, state_path: Path, status: Callable[[], Awaitable[Reply]]) -> None:
        self._run_path, self._state_path = run_path, state_path
        self._made: dict[str, tuple[float, bytes]] = {}  # command -> (when, reply)
        self._makes: dict[str, Callable[[], Awaitable[Reply]]] = {"status": status, "history": self._history}
        self._locks = {command: asyncio.Lock() for command in self._makes}
        self._clients = 0

    async def start(self) -> None:
        path = status_folder.make(self._run_path)
        path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._client, str(path), limit=LINE_BYTES_MAX)
        os.chmod(path, 0o666)  # the folder decides who gets here

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._clients >= CLIENTS_MAX:
            return writer.close()
        self._clients += 1
        try:
            while line := await asyncio.wait_for(reader.readline(), IDLE_S):
                writer.write(await self._reply(line))
                await asyncio.wait_for(writer.drain(), DRAIN_S)
                await asyncio.sleep(PACE_S)
        except (OSError, ValueError, asyncio.TimeoutError, asyncio.CancelledError):
            return  # a client that sends nonsense or goes away harms only itself
        finally:
            self._clients -= 1
            writer.close()

    async def _reply(self, line: bytes) -> bytes:
        command = _command(line)
        if command not in self._makes:
            return _text({"ok": False, "error": "only 'status' and 'history' are answered here; use ploverctl for anything else"})
        async with self._locks[command]:
            now = asyncio.get_running_loop().time()
            at, text = self._made.get(command, (float("-inf"), b""))
            if now - at >= FRESH_S:
                text = _text({"ok": True, **await self._makes[command]()})
                self._made[command] = (now, text)
            return text

    async def _history(self) -> Reply:
        return await asyncio.to_thread(_recent, self._state_path)


def _command(line: bytes) -> str:
    """The command of a request; empty if there is none."""
    try:
        request = json.loads(line)
    except (ValueError, RecursionError):
        return ""
    command = request.get("cmd") if isinstance(request, dict) else None
    return command if isinstance(command, str) else ""


def _recent(state_path: Path) -> Reply:
    """The newest entries of the history that have room in a reply, oldest first."""
    try:
        entries, damaged = history.read(state_path)
    except OSError as error:
        return {"entries": [], "damaged": 0, "problem": str(error.strerror)}
    out: list[Reply] = []
    room = HISTORY_BYTES_MAX
    for entry in reversed(entries):
        room -= len(json.dumps(entry)) + 2
        if room < 0:
            break
        out.append(entry)
    return {"entries": out[::-1], "damaged": damaged, "problem": ""}


def _text(reply: Reply) -> bytes:
    return json.dumps(reply).encode() + b"\n"
