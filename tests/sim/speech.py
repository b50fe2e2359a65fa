# SPDX-License-Identifier: GPL-3.0-or-later
"""How the simulated guest answers: with bare answers, or with TCP segments in groups whose output may leave by agreement.

As with two real VMs, not all is alike on both hosts: each chooses the first sequence number of a connection, now and then stamps
an answer, serves two requests in another order, closes a connection, acknowledges a request before it answers.
"""

from __future__ import annotations

import random
import struct
from typing import NamedTuple

from plover.protocol.segments import ACK, FIN, SYN, TCP

REQUEST_BYTES = 16  # what a request takes of the numbers that are acknowledged
FIRST_EACH = 1 << 20  # between two first sequence numbers
STAMP_SHIFT, STAMPS = 24, 128  # bits of an answer's value
FIRST_SHIFT, FIRSTS, CLOSED = 56, 128, 1 << 63  # in a connection's page: who numbers it how, and whether it is closed
_OPERATIONS = 1 << 24
_ANSWER = struct.Struct("!HIBI")  # connection, operation, hit, value
_HIT = 1 << 31
_IP = struct.Struct("!BBHHHBBH4s4s")
_TCP = struct.Struct("!HHIIBBHHH")
ETHERNET = bytes(12) + b"\x08\0"
VM, CLIENT = b"\x0a\0\0\2", b"\x0a\0\0\1"
PORT = 6379


class Heard(NamedTuple):
    """A frame that left the VM. ``operation``: the last one that it acknowledges; ``first``: of the connection's sequence number."""

    connection: int
    operation: int
    hit: bool
    value: int
    first: int
    answers: bool
    begins: bool
    ends: bool

    @property
    def words(self) -> int:
        """What the page of its connection holds, then."""
        return self.hit << 31 | self.value


def operation_of(page: int) -> int:
    """The last operation of a connection's page."""
    return page >> 32 & _OPERATIONS - 1


def words_of(page: int) -> int:
    return page & (1 << 32) - 1


def first_of(page: int) -> int:
    return page >> FIRST_SHIFT & FIRSTS - 1


def bare(connection: int, page: int) -> bytes:
    return _ANSWER.pack(connection, operation_of(page), bool(page & _HIT), page & _HIT - 1)


def hear(frame: bytes) -> Heard:
    if len(frame) == _ANSWER.size:
        connection, operation, hit, value = _ANSWER.unpack(frame)
        return Heard(connection, operation, bool(hit), value, 0, True, False, False)
    _sport, port, start, acks, _offset, flags, *_rest = _TCP.unpack_from(frame, 34)
    payload = frame[54:]
    operation, hit, value = acks // REQUEST_BYTES, 0, 0
    if payload:
        _connection, _operation, hit, value = _ANSWER.unpack(payload)
    return Heard(port - 1, operation, bool(hit), value, start // FIRST_EACH, bool(payload), bool(flags & SYN), bool(flags & FIN))


class Speech:
    """Of one VM. ``own``: chance of its own, so bare groups meet the same faults with and without it."""

    def __init__(self, own: random.Random) -> None:
        self.own = own

    def stamp(self) -> int:
        return self.own.randrange(STAMPS) << STAMP_SHIFT if self.own.random() < 0.2 else 0

    def first(self) -> int:
        return self.own.randrange(1, FIRSTS) << FIRST_SHIFT

    def closes(self) -> int:
        return CLOSED if self.own.random() < 0.02 else 0

    def swaps(self) -> bool:
        return self.own.random() < 0.1

    def frames(self, connection: int, page: int, fresh: bool, begins: bool) -> list[bytes]:
        """The answer to a connection's last operation. ``fresh``: it was done just now. ``begins``: this VM knew nothing of the
        connection; after a cold start, that is not the client's first operation."""
        operation = operation_of(page)
        out = []
        if fresh and begins:
            out.append(self._segment(connection, page, 0, b"", SYN | ACK))
        if fresh and self.own.random() < 0.3:
            out.append(self._segment(connection, page, operation, b"", ACK))
        flags = ACK | FIN if page & CLOSED else ACK
        return [*out, self._segment(connection, page, operation, bare(connection, page), flags)]

    def acks_again(self, connection: int, page: int) -> bytes:
        """After the answer to its last operation."""
        return self._segment(connection, page, operation_of(page), b"", ACK, said=operation_of(page))

    def _segment(self, connection: int, page: int, operation: int, payload: bytes, flags: int, said: int | None = None) -> bytes:
        """``said``: answers before this segment."""
        said = max(0, operation - 1) if said is None else said
        start = first_of(page) * FIRST_EACH + (0 if flags & SYN else 1 + said * _ANSWER.size)
        choice = self.own.getrandbits(16)  # an id and a window of this kernel's own
        tcp = _TCP.pack(PORT, connection + 1, start, operation * REQUEST_BYTES, 5 << 4, flags, choice, 0, 0) + payload
        return ETHERNET + _IP.pack(0x45, 0, 20 + len(tcp), choice, 0, 64, TCP, choice, VM, CLIENT) + tcp
