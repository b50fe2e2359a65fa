# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask and watch the daemon of a VM on this host: JSON lines over its UNIX socket. For the Ansible modules."""
from __future__ import annotations

import json
import re
import socket
import time

RUN_DIR = "/run/plover"
REPLY_BYTES_MAX = 1 << 20
SILENCE_S = 8.0  # a daemon that is watched says something every 2 s
RETRY_S = 0.3
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,30}\Z")  # as the runtime has it; a name becomes part of paths


class ClientError(Exception):
    """The daemon does not answer, answers nonsense, or says no."""


class Refusal(ClientError):
    """What was asked for would harm the VM, or cannot be meant."""


class NotYet(ClientError):
    """The time is over, and the VM is not as it was waited for. ``said``: the daemon's last words."""

    def __init__(self, name, what, timeout_s, said):
        super().__init__(f"VM {name} is not {what} after {timeout_s:g} s (timeout_s). The daemon says: {said}")
        self.said = said


def ask(name, command, run_dir=None, timeout_s=10.0):
    """The daemon's reply to ``command`` as a dictionary; raises ClientError."""
    with _connected(name, command, run_dir, timeout_s) as stream:
        return next(stream)


def watch(name, end, run_dir=None):
    """The daemon's statuses as it has news, until ``end`` (monotonic), but at least one try; a ClientError in place of a
    status says that it does not answer just now. A daemon that is restarted meanwhile is found again."""
    while True:
        try:
            with _connected(name, "watch", run_dir, min(SILENCE_S, max(0.1, end - time.monotonic()))) as stream:
                for reply in stream:
                    if "unknown command" in str(reply.get("error")) or "not for a witness" in str(reply.get("error")):
                        reply = ask(name, "status", run_dir)  # a daemon from before there was `watch`
                        stream.end = 0.0
                    if not reply.get("ok", True):
                        raise ClientError(str(reply.get("error")))
                    if not reply.get("alive"):
                        yield reply
                    stream.limit_s(min(SILENCE_S, max(0.1, end - time.monotonic())))
                    if time.monotonic() >= end:
                        return
        except ClientError as error:
            if time.monotonic() < end or "timed out" not in str(error):
                yield error
        if time.monotonic() + RETRY_S >= end:
            return
        time.sleep(RETRY_S)


def wait_until(name, holds, timeout_s, what, run_dir=None, news=lambda status: None):
    """The first status for which ``holds``; raises NotYet, with what the daemon said last, after ``timeout_s``."""
    said = "nothing"
    for status in watch(name, time.monotonic() + timeout_s, run_dir):
        if isinstance(status, ClientError):
            said = str(status)
            continue
        news(status)
        if holds(status):
            return status
        said = "{}, {}: {}".format(status.get("role"), status.get("service"), status.get("sentence"))
    raise NotYet(name, what, timeout_s, said)


class _connected:
    """A connection on which ``command`` was sent; gives the replies, one dictionary each. Errors become ClientErrors."""

    def __init__(self, name, command, run_dir, timeout_s):
        self._path = f"{run_dir or RUN_DIR}/{name}/ctl.sock"
        self._name, self._command, self._timeout_s, self._data = name, command, timeout_s, b""
        self.end = float("inf")

    def __enter__(self):
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._sock.settimeout(self._timeout_s)
        try:
            self._sock.connect(self._path)
            self._sock.sendall(json.dumps({"cmd": self._command}).encode() + b"\n")
        except OSError as error:
            self._sock.close()
            raise self._no_answer(error) from error
        return self

    def __exit__(self, kind, error, trace):
        self._sock.close()

    def __iter__(self):
        return self

    def __next__(self):
        if self.end == 0.0:
            raise StopIteration
        try:
            reply = json.loads(self._line())
        except (OSError, ValueError, RecursionError) as error:
            raise self._no_answer(error) from error
        if not isinstance(reply, dict):
            raise ClientError(f"{self._path}: the answer is no JSON object")
        return reply

    def limit_s(self, seconds):
        self._sock.settimeout(seconds)

    def _line(self):
        while b"\n" not in self._data:
            chunk = self._sock.recv(65536)
            if not chunk:
                raise ClientError(f"{self._path}: the daemon closed the connection in mid-answer")
            self._data += chunk
            if len(self._data) > REPLY_BYTES_MAX:
                raise ClientError(f"{self._path}: an answer of over {REPLY_BYTES_MAX} bytes")
        line, _newline, self._data = self._data.partition(b"\n")
        return line

    def _no_answer(self, error):
        return ClientError(f"{self._path}: {error}; is the unit plover-replica@{self._name} or plover-witness@{self._name} "
                           "running?")
