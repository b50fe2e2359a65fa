# SPDX-License-Identifier: GPL-3.0-or-later
"""The control socket, both ends: requests to a daemon, and a daemon's replies."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from plover.ctl import client
from plover.daemon.control_server import LINE_BYTES_MAX, ControlServer
from plover.errors import ControlError
from plover.replica.operator import Operator

from ..target import Target, promise
from . import group

LOOP = asyncio.new_event_loop()
STATUS = {"service": "protected", "role": "leader", "view": 3, "fencing": {}}
COMMANDS = ("status", "settings", "watch", "switchover", "audit", "failover-price", "cold-start")


class _Writer:
    """The client's side of the socket."""

    def __init__(self) -> None:
        self.got = b""
        self.closed = False

    def write(self, data: bytes) -> None:
        self.got += data

    async def drain(self) -> None: ...

    def close(self) -> None:
        self.closed = True


class _Daemon:
    """A replica's operator over a daemon that only tells its status."""

    def __init__(self) -> None:
        core = SimpleNamespace(status=lambda: {**STATUS, "fencing": {}}, recent=[])
        shell = {"watchdog": {}, "tap_error": ""}
        asked: Any = SimpleNamespace(
            config=group.config("primary"),
            loop=LOOP,
            core=core,
            at=lambda: core,
            settings=lambda: {"stale": []},
            shell_status=lambda: dict(shell),
        )
        self._operator = Operator(asked)
        self._refused = self._operator._commands.keys() - {"status", "settings", "syncvms"}  # they need a whole core

    async def operator(self, request: dict[str, Any]) -> dict[str, Any]:
        if isinstance(request.get("cmd"), str) and request["cmd"] in self._refused:
            return {"error": "not now"}
        return await self._operator.answer(request)


SERVER = ControlServer(group.FOLDER / "ctl.sock", _Daemon())


async def _talk(data: bytes) -> tuple[bytes, bool]:
    reader, writer = asyncio.StreamReader(LINE_BYTES_MAX), _Writer()
    reader.feed_data(data)
    reader.feed_eof()
    await SERVER._client(reader, writer)
    return writer.got, writer.closed


def requests(data: bytes) -> None:
    """Whatever a client sends, it gets one reply for each line, in JSON, and the daemon goes on."""
    got, closed = LOOP.run_until_complete(_talk(data))
    promise(closed, "a connection that stays open")
    replies = got.splitlines()
    promise(len(replies) <= data.count(b"\n") + 1, "more replies than requests")
    for reply in replies:
        promise(isinstance(json.loads(reply)["ok"], bool), "a reply that a client does not understand")
    promise(len(got) <= 16 * len(data) + 512 * (len(replies) + 1), "a long reply to a short request")


def _requests() -> Iterator[tuple[str, bytes]]:
    for command in COMMANDS:
        yield command, json.dumps({"cmd": command}).encode() + b"\n"
    yield "two", b'{"cmd": "status"}\n{"cmd": "settings"}\n'


def replies(data: bytes) -> None:
    """What a daemon says in reply, read by ploverctl and the modules."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 18)
        theirs.sendall(data)
        theirs.shutdown(socket.SHUT_WR)
        connection = client._Connection.__new__(client._Connection)
        connection._data, connection._socket = b"", ours
        promise(isinstance(connection.reply(5.0)["ok"], bool), "a reply without a boolean 'ok'")


def _replies() -> Iterator[tuple[str, bytes]]:
    yield "status", json.dumps({"ok": True, **STATUS}).encode() + b"\n"
    yield "error", b'{"ok": false, "error": "no"}\n'


TARGETS = [
    Target("control_requests", requests, (), _requests, is_json=True),
    Target("control_replies", replies, (ControlError,), _replies, is_json=True),
]
