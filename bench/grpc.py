# SPDX-License-Identifier: GPL-3.0-or-later
"""Just enough gRPC over HTTP/2 to call etcd, cheap enough that the benchmark does not measure its client.

A general client spends several hundred microseconds of Python per call. This one builds each request as one run of
bytes, sends all ready requests in one write, and reads only the frames' heads and the bodies of the answers. Headers
are not decoded: a failed call has no body, which is an error here.
"""

from __future__ import annotations

import socket
import struct
from collections import deque
from collections.abc import Callable

from .load import BenchError

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, END_HEADERS, ACK = 1, 4, 1
HEAD_BYTES = 9
WINDOW_START_BYTES, WINDOW_BYTES_MAX = 65_535, (1 << 31) - 1
_FRAME = struct.Struct("!BHBBI")  # length u24 as u8 + u16
_U32 = struct.Struct("!I")
TIMEOUT_S = 10.0


def varint(value: int) -> bytes:
    """Protocol buffers' base-128 number."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes(out + bytes([value]))


def field(number: int, value: bytes | int) -> bytes:
    """One field of a protocol buffer: bytes or a number."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def fields(message: bytes) -> dict[int, bytes | int]:
    """The fields of a protocol buffer; of a repeated one, the last."""
    out: dict[int, bytes | int] = {}
    at = 0
    while at < len(message):
        key, at = _read_varint(message, at)
        value, at = _read_varint(message, at)
        kind = key & 7
        if kind == 2:
            value, at = message[at : at + value], at + value
        elif kind != 0:
            raise BenchError(f"a protocol buffer's field of wire type {kind}, which etcd's answers do not have")
        out[key >> 3] = value
    return out


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    return _FRAME.pack(len(body) >> 16, len(body) & 65_535, kind, flags, stream) + body


class Channel:
    """One connection, many calls at once; single-threaded, and blocking only in :meth:`wait`."""

    def __init__(self, address: str, port: int) -> None:
        self._authority = f"{address}:{port}".encode()
        self._socket = socket.create_connection((address, port), TIMEOUT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._stream = 1
        self._answers: dict[int, Callable[[bytes], None]] = {}
        self._bodies: dict[int, bytes] = {}
        self._window = WINDOW_START_BYTES
        self._waiting: deque[tuple[bytes, int]] = deque()  # (request, bytes that count against the window)
        self._out: list[bytes] = [
            PREFACE,
            frame(SETTINGS, 0, 0, b""),
            frame(WINDOW_UPDATE, 0, 0, _U32.pack(WINDOW_BYTES_MAX - WINDOW_START_BYTES)),
        ]
        self._in = b""

    def method(self, path: str) -> bytes:
        """The header block of calls to ``path``: HPACK, nothing indexed, so it is the same for each call."""

        def text(value: bytes) -> bytes:
            return bytes([len(value)]) + value

        return (
            b"\x83\x86\x04"
            + text(path.encode())
            + b"\x01"
            + text(self._authority)
            + b"\x0f\x10"
            + text(b"application/grpc")
            + b"\x00"
            + text(b"te")
            + text(b"trailers")
        )

    def call(self, method: bytes, message: bytes, answer: Callable[[bytes], None]) -> None:
        """Queue a call; ``answer`` gets the response's message. It is sent by the next :meth:`wait`."""
        body = b"\0" + _U32.pack(len(message)) + message
        stream, self._stream = self._stream, self._stream + 2
        self._answers[stream] = answer
        request = frame(HEADERS, END_HEADERS, stream, method) + frame(DATA, END_STREAM, stream, body)
        self._waiting.append((request, len(body)))

    def wait(self) -> None:
        """Send the queued requests, then wait for bytes and hand out the answers."""
        while self._waiting and self._waiting[0][1] <= self._window:
            request, size = self._waiting.popleft()
            self._window -= size
            self._out.append(request)
        if self._out:
            self._socket.sendall(b"".join(self._out))
            self._out = []
        data = self._socket.recv(1 << 18)
        if not data:
            raise BenchError("etcd closed the connection")
        self._in = self._read(self._in + data)

    def ask(self, method: bytes, message: bytes) -> bytes:
        """One call, waited for."""
        answers: list[bytes] = []
        self.call(method, message, answers.append)
        while not answers:
            self.wait()
        return answers[0]

    def _read(self, data: bytes) -> bytes:
        at, size = 0, len(data)
        while size - at >= HEAD_BYTES:
            high, low, kind, flags, stream = _FRAME.unpack_from(data, at)
            start = at + HEAD_BYTES
            end = start + (high << 16 | low)
            if end > size:
                break
            if kind == DATA:
                self._bodies[stream] = self._bodies.get(stream, b"") + data[start:end]
            if kind in (DATA, HEADERS) and flags & END_STREAM:
                self._finish(stream, self._bodies.pop(stream, b""))
            elif kind not in (DATA, HEADERS):
                self._control(kind, flags, stream, data[start:end])
            at = end
        return data[at:]

    def _finish(self, stream: int, body: bytes) -> None:
        if len(body) < 5 or len(body) != 5 + _U32.unpack_from(body, 1)[0]:
            raise BenchError("etcd refused a call (an answer without a body)")
        self._answers.pop(stream)(body[5:])

    def _control(self, kind: int, flags: int, stream: int, body: bytes) -> None:
        if kind == WINDOW_UPDATE and stream == 0:
            self._window += _U32.unpack(body)[0]
        elif kind in (SETTINGS, PING) and not flags & ACK:
            self._out.append(frame(kind, ACK, 0, body if kind == PING else b""))
        elif kind in (RST_STREAM, GOAWAY):
            raise BenchError(f"etcd broke a call or the connection off ({body!r})")

    def close(self) -> None:
        self._socket.close()
