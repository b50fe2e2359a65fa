# SPDX-License-Identifier: GPL-3.0-or-later
"""The daemon's side of ploverctl: JSON lines on a UNIX socket, for root only."""
from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

LINE_BYTES_MAX = 65_536
IDLE_S = 60.0


class ControlServer:
    def __init__(self, path: Path, daemon: Any) -> None:
        """``daemon`` has ``async operator(request: dict) -> dict``."""
        self._path, self._daemon = path, daemon

    async def start(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._client, str(self._path), limit=LINE_BYTES_MAX)
        os.chmod(self._path, 0o600)

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await asyncio.wait_for(reader.readline(), IDLE_S):
                writer.write(json.dumps(await self._reply(line)).encode() + b"\n")
                await writer.drain()
        except (OSError, ValueError, asyncio.TimeoutError, asyncio.CancelledError):
            return  # a client that talks nonsense or goes away harms only itself
        finally:
            writer.close()

    async def _reply(self, line: bytes) -> dict:
        try:
            request = json.loads(line)
            if not isinstance(request, dict):
                raise ValueError("not an object")
        except (ValueError, RecursionError) as error:
            return {"ok": False, "error": f"request is no JSON object: {error}"}
        try:
            reply = await self._daemon.operator(request)
        except asyncio.TimeoutError:
            reply = {"error": "no answer in time; see 'ploverctl status'"}
        return {"ok": "error" not in reply, **reply}
