# SPDX-License-Identifier: GPL-3.0-or-later
"""The daemon's side of ploverctl: JSON lines on a UNIX socket, for root only.

One request, one reply. Only `watch` is answered by a stream: the status at once and after each change, and
`{"alive": true}` in between, so that the client notices a hung daemon. Without a watcher this costs nothing.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from pathlib import Path
from typing import Any

LINE_BYTES_MAX = 65_536
IDLE_S = 60.0
WATCH = "watch"
WATCH_EVERY_S = 0.2
ALIVE_S = 2.0
WATCHERS_MAX = 8
WATCH_S_MAX = 3600.0  # then the stream ends; the client may ask again
DRAIN_S = 10.0
NEWS = ("service", "role", "leader", "sentence", "in_sync", "view", "reason", "forced", "linked")
_COUNTER = re.compile(r"log index \d+")  # changes all the time, which is no news


def news_of(status: dict[str, Any]) -> tuple[Any, ...]:
    """The part of the status whose change is news for a watcher."""
    return tuple(_COUNTER.sub("", value) if isinstance(value, str) else value for value in map(status.get, NEWS))


class ControlServer:
    def __init__(self, path: Path, daemon: Any) -> None:
        """``daemon`` has ``async operator(request: dict) -> dict``."""
        self._path, self._daemon, self._watchers = path, daemon, 0

    async def start(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._client, str(self._path), limit=LINE_BYTES_MAX)
        os.chmod(self._path, 0o600)

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await asyncio.wait_for(reader.readline(), IDLE_S):
                request = _parse(line)
                if isinstance(request, dict) and request.get("cmd") == WATCH:
                    return await self._watch(reader, writer)
                await _say(writer, await self._reply(request))
        except (OSError, ValueError, asyncio.TimeoutError, asyncio.CancelledError):
            return  # a client that sends nonsense or goes away harms only itself
        finally:
            writer.close()

    async def _reply(self, request: dict[str, Any] | str) -> dict[str, Any]:
        if isinstance(request, str):
            return {"ok": False, "error": request}
        try:
            reply = await self._daemon.operator(request)
        except asyncio.TimeoutError:
            reply = {"error": "no answer in time; see 'ploverctl status'"}
        return {"ok": "error" not in reply, **reply}

    async def _watch(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._watchers >= WATCHERS_MAX:
            return await _say(writer, {"ok": False, "error": f"{self._watchers} watch already; end one of them"})
        self._watchers += 1
        gone = asyncio.ensure_future(reader.read(1))  # a watcher sends nothing more, so this ends when it leaves
        try:
            await self._stream(gone, writer)
        finally:
            self._watchers -= 1
            if not gone.cancel() and not gone.cancelled():
                gone.exception()  # retrieved, or asyncio would report the broken connection as an error of the daemon

    async def _stream(self, gone: asyncio.Future[bytes], writer: asyncio.StreamWriter) -> None:
        streamed_s, silent_s, known = 0.0, 0.0, None
        while streamed_s < WATCH_S_MAX and not gone.done():
            status = await self._reply({"cmd": "status"})
            news = news_of(status)
            if news != known:
                await _say(writer, status)
                known, silent_s = news, 0.0
            elif silent_s >= ALIVE_S:
                await _say(writer, {"ok": True, "alive": True})
                silent_s = 0.0
            await asyncio.wait([gone], timeout=WATCH_EVERY_S)
            streamed_s, silent_s = streamed_s + WATCH_EVERY_S, silent_s + WATCH_EVERY_S


def _parse(line: bytes) -> dict[str, Any] | str:
    """The request, or what is wrong with it."""
    try:
        request = json.loads(line)
        if not isinstance(request, dict):
            raise ValueError("not an object")
    except (ValueError, RecursionError) as error:
        return f"request is no JSON object: {error}"
    return request


async def _say(writer: asyncio.StreamWriter, reply: dict[str, Any]) -> None:
    writer.write(json.dumps(reply).encode() + b"\n")
    await asyncio.wait_for(writer.drain(), DRAIN_S)
