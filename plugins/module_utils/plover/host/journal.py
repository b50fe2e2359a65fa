# SPDX-License-Identifier: GPL-3.0-or-later
"""The daemon's log in systemd's journal, with priorities and fields (systemd's "Native Journal Protocol"); elsewhere on stderr.

The journal learns the unit of a line from its sender's cgroup, so `journalctl -u` finds lines that come by this socket as well.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Callable, Mapping

SOCKET = "/run/systemd/journal/socket"
MESSAGE_BYTES_MAX = 16_384  # of each value; what is longer is cut
NOTICE = 25  # between info and warning: normal, but worth attention
_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (NOTICE, 5), (logging.INFO, 6))
DEBUG = 7
FIELDS = "journal"  # attribute of a record: more fields, by name

Fields = Mapping[str, str]


def priority(level: int) -> int:
    """That of syslog(3), 0 to 7, for a level of logging."""
    return next((number for least, number in _PRIORITIES if level >= least), DEBUG)


def encode(fields: Fields) -> bytes:
    """One entry. A value of several lines goes with its length before it."""
    out = b""
    for name, value in fields.items():
        data = value.encode(errors="replace")[:MESSAGE_BYTES_MAX].decode(errors="ignore").encode()  # half a character is cut, too
        key = name.encode()
        out += key + b"\n" + len(data).to_bytes(8, "little") + data + b"\n" if b"\n" in data else key + b"=" + data + b"\n"
    return out


class Prefixed(logging.Formatter):
    """Lines for a stderr that is the journal's: each begins with its priority (sd-daemon(3))."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(f"<{priority(record.levelno)}>{line}" for line in super().format(record).split("\n"))


class Journal(logging.Handler):
    """``fields``: what every entry has, asked anew for each. ``otherwise`` takes what the journal's socket does not."""

    def __init__(self, fields: Callable[[], Fields], otherwise: logging.Handler, path: str = SOCKET) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(message)s"))
        self._fields, self._otherwise, self._path = fields, otherwise, path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)

    def emit(self, record: logging.LogRecord) -> None:
        # A daemon's last words go to stderr, which belongs to its unit for certain. A datagram does only while its sender lives.
        if record.levelno >= logging.CRITICAL or not self._send(record):
            self._otherwise.handle(record)

    def _send(self, record: logging.LogRecord) -> bool:
        try:
            own = {"MESSAGE": self.format(record), "PRIORITY": str(priority(record.levelno))}
            more: Fields = getattr(record, FIELDS, {})
            self._socket.sendto(encode({**own, **self._fields(), **more}), self._path)
        except Exception:  # no socket, a full one, or arguments that do not fit: stderr takes it, or says what is wrong with it
            return False
        return True

    def close(self) -> None:
        self._socket.close()
        super().close()


def is_our_stderr() -> bool:
    """Has systemd connected our stderr to the journal, and nobody put another one in its place?"""
    device, _colon, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        found = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return (device, inode) == (str(found.st_dev), str(found.st_ino))


def begin() -> logging.Handler:
    """Log to stderr, until :func:`attach`."""
    logging.addLevelName(NOTICE, "NOTICE")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Prefixed("%(message)s") if is_our_stderr() else logging.Formatter("%(asctime)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    return handler


def attach(stderr: logging.Handler, fields: Callable[[], Fields], path: str = SOCKET) -> None:
    """From now on with ``fields``, if systemd started us. ``stderr``: what :func:`begin` returned."""
    if is_our_stderr():
        logging.basicConfig(level=logging.INFO, handlers=[Journal(fields, stderr, path)], force=True)
