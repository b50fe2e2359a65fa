# SPDX-License-Identifier: GPL-3.0-or-later
"""A small NBD client: list the exports, read, write. Without encryption, as an attacker who has no key.

The protocol is that of the NBD project's doc/proto.md ("fixed newstyle"). The bytes to send are made by pure functions, so
they can also be sent by a tool in a guest, blindly, all at once.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

GREETING = b"NBDMAGIC" + b"IHAVEOPT"
FLAGS = struct.pack("!I", 3)  # fixed newstyle, no zeroes
EXPORT_NAME, ABORT, LIST = 1, 2, 3
REPLY_MAGIC, REQUEST_MAGIC, SIMPLE_MAGIC = 0x3E889045565A9, 0x25609513, 0x67446698
ACK, SERVER = 1, 2
READ, WRITE = 0, 1
NAMES_MAX, REPLY_BYTES_MAX = 32, 65_536


class NbdError(Exception):
    """The other end speaks no NBD, or refuses."""


def option(kind: int, data: bytes = b"") -> bytes:
    return b"IHAVEOPT" + struct.pack("!II", kind, len(data)) + data


def request(kind: int, offset: int, length: int) -> bytes:
    return struct.pack("!IHHQQI", REQUEST_MAGIC, 0, kind, 1, offset, length)


def list_words() -> bytes:
    """All that is to be said for a list of the exports."""
    return FLAGS + option(LIST) + option(ABORT)


def read_words(name: bytes, offset: int, length: int) -> bytes:
    """All that is to be said to read from an export."""
    return FLAGS + option(EXPORT_NAME, name) + request(READ, offset, length)


def names(answer: bytes) -> list[bytes]:
    """The exports in all that a server said to :func:`list_words`."""
    out: list[bytes] = []
    at = answer.find(struct.pack("!Q", REPLY_MAGIC))
    while 0 <= at <= len(answer) - 20 and len(out) < NAMES_MAX:
        magic, _option, kind, length = struct.unpack_from("!QIII", answer, at)
        if magic != REPLY_MAGIC or kind != SERVER or length > REPLY_BYTES_MAX:
            break
        (size,) = struct.unpack_from("!I", answer, at + 20)
        out.append(answer[at + 24 : at + 24 + size])
        at += 20 + length
    return out


class Client:
    """One connection to one export. Raises NbdError, OSError."""

    def __init__(self, sock: socket.socket, name: bytes) -> None:
        self._sock = sock
        greet(sock)
        sock.sendall(FLAGS + option(EXPORT_NAME, name))
        self.size, _flags = struct.unpack("!QH", exactly(sock, 10))

    def read(self, offset: int, length: int) -> bytes:
        self._sock.sendall(request(READ, offset, length))
        self._answered()
        return exactly(self._sock, length)

    def write(self, offset: int, data: bytes) -> None:
        self._sock.sendall(request(WRITE, offset, len(data)) + data)
        self._answered()

    def _answered(self) -> None:
        magic, error, _handle = struct.unpack("!IIQ", exactly(self._sock, 16))
        if magic != SIMPLE_MAGIC or error:
            raise NbdError(f"refused: error {error}")


def greet(sock: socket.socket) -> None:
    head = exactly(sock, 18)
    if head[:16] != GREETING:
        raise NbdError(f"no NBD: it says {head[:16]!r}")


def exports(sock: socket.socket) -> list[bytes]:
    greet(sock)
    sock.sendall(list_words())
    return names(b"".join(_all(sock)))


def _all(sock: socket.socket) -> Iterator[bytes]:
    left = REPLY_BYTES_MAX
    while left > 0 and (data := sock.recv(min(left, 4096))):
        left -= len(data)
        yield data


def exactly(sock: socket.socket, length: int) -> bytes:
    out = b""
    while len(out) < length:
        data = sock.recv(min(65_536, length - len(out)))
        if not data:
            raise NbdError(f"it closed the connection after {len(out)} of {length} bytes")
        out += data
    return out
