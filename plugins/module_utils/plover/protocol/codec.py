# SPDX-License-Identifier: GPL-3.0-or-later
"""Messages (:mod:`plover.protocol.wire`) as bytes, and back. Pure.

Frame (big-endian): magic "PLVR", version u8, type u8, zero u16, cluster tag u32, body length u32, body.
A body is the message's fixed fields (``FMT``) and then its payload, if it has one.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import fields
from operator import attrgetter
from typing import Any, NamedTuple

from ..errors import WireError
from .pages import PageRun, Parts
from .wire import Message

MAGIC = b"PLVR"
VERSION = 4
HEADER = struct.Struct("!4sBBHII")
BODY_BYTES_MAX = 64 << 20


class _Codec(NamedTuple):
    name: str
    make: Callable[..., Message]
    fixed: struct.Struct
    values: Callable[[Message], tuple[Any, ...]]  # of the fixed fields, in order
    payload: Callable[[Message], bytes | Parts] | None


def _codec(cls: type[Message]) -> _Codec:
    names = [f.name for f in fields(cls)]
    fixed = [name for name in names if name != "payload"]
    # attrgetter of one name gives no tuple.
    values = attrgetter(*fixed) if len(fixed) > 1 else lambda message: tuple(getattr(message, name) for name in fixed)
    return _Codec(cls.__name__, cls, struct.Struct(cls.FMT), values, attrgetter("payload") if names != fixed else None)


_TYPES: dict[int, _Codec] = {cls.TYPE: _codec(cls) for cls in Message.__subclasses__()}


def cluster_tag(cluster_id: str) -> int:
    """A u32 that tells messages of different clusters apart."""
    return zlib.crc32(cluster_id.encode())


def encode(message: Message, tag: int) -> list[bytes | PageRun]:
    """Buffers to send, in order: the head, then the payload without a copy. The sender may still have to copy them."""
    name, _make, fixed, values, payload_of = _TYPES[message.TYPE]
    payload = payload_of(message) if payload_of else b""
    length = fixed.size + len(payload)
    if length > BODY_BYTES_MAX:
        raise WireError(f"{name} of {length} bytes is over the limit of {BODY_BYTES_MAX}")
    head = HEADER.pack(MAGIC, VERSION, message.TYPE, 0, tag, length) + fixed.pack(*values(message))
    if isinstance(payload, Parts):
        return [head, *payload.buffers]
    return [head, payload] if len(payload) else [head]


class Decoder:
    """Bytes of one connection in, messages out. After an error the connection must be closed."""

    def __init__(self, tag: int) -> None:
        self._tag = tag
        self._rest = bytearray()  # the start of an incomplete message

    def feed(self, data: bytes | memoryview) -> Iterator[Message]:
        """The messages that ``data`` completes. A message that lies whole in ``data`` is decoded there without buffering. Its
        payload is a copy, so the caller may reuse ``data``."""
        block: bytes | bytearray | memoryview = data
        if self._rest:
            self._rest += data
            block = self._rest
        offset, size = 0, len(block)
        try:
            while size - offset >= HEADER.size:
                kind, length = self._header(block, offset)
                end = offset + HEADER.size + length
                if end > size:
                    break
                start, offset = offset + HEADER.size, end
                yield self._message(kind, block, start, end)
        finally:
            if block is self._rest:
                del self._rest[:offset]
            elif offset < size:
                self._rest += memoryview(block)[offset:]

    def rest(self) -> bytes:
        """The bytes after the last message, for who reads on: they are no message."""
        rest, self._rest = bytes(self._rest), bytearray()
        return rest

    @property
    def waiting(self) -> int:
        """Bytes held of an incomplete message."""
        return len(self._rest)

    def end(self) -> None:
        """The other member closed the connection. Raises WireError if that was inside a message."""
        if self._rest:
            raise WireError(f"truncated message: {len(self._rest)} bytes and then the end")

    def _header(self, data: bytes | bytearray | memoryview, offset: int) -> tuple[int, int]:
        magic, version, kind, zero, tag, length = HEADER.unpack_from(data, offset)
        if magic != MAGIC:
            raise WireError(f"not a Plover message (starts with {bytes(magic).hex()}); is 'port' used by something else?")
        if version != VERSION:
            raise WireError(f"protocol version {version}, this host speaks {VERSION}; install one version everywhere")
        if tag != self._tag:
            raise WireError("message of another cluster; 'cluster_id' and 'port' must be equal on all members")
        if kind not in _TYPES or zero:
            raise WireError(f"unknown message type {kind}")
        if length > BODY_BYTES_MAX:
            raise WireError(f"message of {length} bytes is over the limit of {BODY_BYTES_MAX}")
        return kind, length

    @staticmethod
    def _message(kind: int, data: bytes | bytearray | memoryview, start: int, end: int) -> Message:
        name, make, fixed, _values, payload_of = _TYPES[kind]
        payload = start + fixed.size
        if end < payload or (not payload_of and end != payload):
            raise WireError(f"{name} has {end - start} bytes, expected {fixed.size}")
        values = fixed.unpack_from(data, start)
        return make(*values, bytes(memoryview(data)[payload:end])) if payload_of else make(*values)
