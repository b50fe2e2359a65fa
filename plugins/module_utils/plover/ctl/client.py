# SPDX-License-Identifier: GPL-3.0-or-later
"""The client of a daemon's control socket: ask and watch, JSON lines over a UNIX socket.

The only client: ploverctl, the Ansible modules, the lab and the tests use it. Ansible copies this file and its imports to the
hosts with each module, so it imports next to nothing.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from typing import Any

from ..errors import ControlError, ControlTimeoutError

REPLY_BYTES_MAX = 1 << 20
READ_BYTES = 65_536
SILENCE_S = 8.0  # a daemon that is watched says something every 2 s
WAIT_S_MIN = 0.1


def ask(path: str | os.PathLike[str], request: dict[str, Any], timeout_s: float) -> dict[str, Any]:
    """The daemon's reply to one request. Raises ControlError if there is no reply, or it makes no sense."""
    with _Connection(path, request, timeout_s) as daemon:
        return daemon.reply(timeout_s)


def watch(path: str | os.PathLike[str], end: float = float("inf")) -> Iterator[dict[str, Any]]:
    """The daemon's status at once and after each change, until ``end`` (monotonic). A reply that is not ok is the last one.
    Raises ControlError if the daemon goes away, or is silent for SILENCE_S or until ``end``."""
    with _Connection(path, {"cmd": "watch"}, _silence_s(end)) as daemon:
        while True:
            reply = daemon.reply(_silence_s(end))
            if not reply.get("alive"):
                yield reply
            if not reply["ok"] or time.monotonic() >= end:
                return


def _silence_s(end: float) -> float:
    return min(SILENCE_S, max(WAIT_S_MIN, end - time.monotonic()))


class _Connection:
    """A connection on which one request is sent. Its ControlErrors do not name the socket: the caller adds that and the remedy."""

    def __init__(self, path: str | os.PathLike[str], request: dict[str, Any], timeout_s: float) -> None:
        self._data = b""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.settimeout(timeout_s)
            self._socket.connect(os.fspath(path))
            self._socket.sendall(json.dumps(request).encode() + b"\n")
        except OSError as error:
            self._socket.close()
            raise _no_answer(error) from error

    def __enter__(self) -> _Connection:
        return self

    def __exit__(self, *error: object) -> None:
        self._socket.close()

    def reply(self, timeout_s: float) -> dict[str, Any]:
        """The next reply; all of it must come within ``timeout_s``."""
        try:
            reply = json.loads(self._line(time.monotonic() + timeout_s))
        except (OSError, ValueError, RecursionError) as error:
            raise _no_answer(error) from error
        if not isinstance(reply, dict) or not isinstance(reply.get("ok"), bool):
            raise ControlError("the answer is no JSON object with a boolean 'ok'")
        return reply

    def _line(self, end: float) -> bytes:
        while b"\n" not in self._data:
            left_s = end - time.monotonic()
            if left_s <= 0:
                raise ControlTimeoutError("timed out")
            self._socket.settimeout(left_s)
            chunk = self._socket.recv(READ_BYTES)
            if not chunk:
                raise ControlError("the daemon closed the connection in mid-answer")
            self._data += chunk
            if len(self._data) > REPLY_BYTES_MAX:
                raise ControlError(f"an answer of over {REPLY_BYTES_MAX} bytes")
        line, _newline, self._data = self._data.partition(b"\n")
        return line


def _no_answer(error: Exception) -> ControlError:
    return (ControlTimeoutError if isinstance(error, socket.timeout) else ControlError)(str(error))
