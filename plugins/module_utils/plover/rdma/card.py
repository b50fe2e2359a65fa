# SPDX-License-Identifier: GPL-3.0-or-later
"""The Card of plover.consensus.one_sided over a real network card: rings in registered memory, and connections.

A member's ring for a leader, and after it the words that the leader reads::

    ring (rdma_ring_mib) | how far we have read (u64) | one_sided.Counters, padded to a page

The card's descriptor announces completions. Writes by a leader are found by polling the ring (rdma/ring_watch.py).
"""

from __future__ import annotations

import asyncio
import logging
import mmap
import struct
from typing import Protocol

from ..consensus.one_sided import COUNTERS_BYTES
from ..errors import InvariantViolation, RdmaError
from .library import ADDRESS_BYTES, REMOTE_READ, REMOTE_WRITE, Card, Connection, Memory, Patience, RingReader, status_name
from .ring_watch import RingWatch

log = logging.getLogger("plover")
DEPTH = 512
PAGE = 4096
_PLACE = struct.Struct("<QQI")  # a ring's address, length, rkey
_READ_UP_TO = struct.Struct("<Q")
READ = 1 << 63  # the number of every read; the numbers of writes stay below
OFFER_BYTES = ADDRESS_BYTES + _PLACE.size


class Events(Protocol):
    """Receives the card's events."""

    def look(self) -> None:
        """A frame was written into one of our rings."""

    def written(self, follower: str, ring: int, number: int, ok: bool) -> None: ...

    def counters_read(self, follower: str, ring: int, data: bytes) -> None: ...


class _Incoming:
    """The memory that one leader may write. It is kept for good; each ring in it gets a new connection."""

    def __init__(self, card: Card, ring_bytes: int) -> None:
        self.ring_bytes = ring_bytes
        self.buffer = mmap.mmap(-1, ring_bytes + PAGE)
        self.region = card.region(self.buffer, REMOTE_WRITE | REMOTE_READ)
        self.connection: Connection | None = None
        self.reader: RingReader
        self.watch: RingWatch | None = None

    def tell(self, offset: int, data: bytes) -> None:
        at = self.ring_bytes + offset
        self.buffer[at : at + len(data)] = data


class _Outgoing:
    """A leader's end of a follower's ring."""

    def __init__(self, card: Card, ring: int, place: Memory) -> None:
        self.ring, self.place = ring, place
        self.buffer = mmap.mmap(-1, place.length + PAGE)
        self.region = card.region(self.buffer)
        self.connection = card.connection(DEPTH)
        self.head = place.length
        self.tail = place.length
        self.number = 0
        self.reading = False

    def close(self) -> None:
        self.connection.close()
        self.region.close()


class RdmaCard:
    """See :class:`plover.consensus.one_sided.Card`."""

    def __init__(self, card: Card, ring_bytes: int, patience: Patience, events: Events) -> None:
        self._card, self._ring_bytes, self._patience, self._events = card, ring_bytes, patience, events
        self._loop = asyncio.get_running_loop()
        self._incoming: dict[str, _Incoming] = {}
        self._outgoing: dict[str, _Outgoing] = {}

    # ---- follower ---------------------------------------------------------------------------------
    def offer(self, leader: str, ring: int) -> bytes | None:
        try:
            incoming = self._incoming.get(leader) or _Incoming(self._card, self._ring_bytes)
            self._incoming[leader] = incoming
            incoming.connection = self._card.connection(DEPTH)
        except RdmaError as error:
            log.error("no ring for %s: %s", leader, error)
            return None
        incoming.reader = RingReader(incoming.buffer, self._ring_bytes, ring)
        incoming.tell(0, _READ_UP_TO.pack(self._ring_bytes) + bytes(COUNTERS_BYTES))
        address, _length, rkey = incoming.region.memory
        return incoming.connection.address + _PLACE.pack(address, self._ring_bytes, rkey)

    def open(self, leader: str, answer: bytes) -> bool:
        incoming = self._incoming[leader]
        if incoming.connection is None:
            raise InvariantViolation(f"ring for {leader}: it is opened, but was not offered")
        try:
            incoming.connection.connect(answer, REMOTE_WRITE | REMOTE_READ, self._patience)
        except RdmaError as error:
            log.warning("ring for %s: %s", leader, error)
            return False
        incoming.watch = RingWatch(incoming.reader, self._loop, self._events.look, f"ring-{leader}")
        return True

    def revoke(self, leader: str) -> None:
        incoming = self._incoming[leader]
        if incoming.connection is not None:
            if incoming.watch:
                incoming.watch.stop()
                incoming.watch = None
            try:
                incoming.connection.revoke()
            except RdmaError as error:  # it could still write frames that we would not count
                raise InvariantViolation(f"ring for {leader}: {error}") from error
            incoming.connection.close()
            incoming.connection = None

    def landed(self, leader: str) -> bytes | None:
        incoming = self._incoming[leader]
        frame = incoming.reader.next()
        if frame is not None:
            incoming.tell(0, _READ_UP_TO.pack(incoming.reader.position))
        return frame

    def publish(self, leader: str, counters: bytes) -> None:
        self._incoming[leader].tell(_READ_UP_TO.size, counters)

    # ---- leader -----------------------------------------------------------------------------------
    def accept(self, follower: str, ring: int, offer: bytes) -> bytes | None:
        if len(offer) != OFFER_BYTES:
            log.error("%s offers a ring in %d bytes, %d are expected; install one version everywhere", follower, len(offer), OFFER_BYTES)
            return None
        address, length, rkey = _PLACE.unpack(offer[ADDRESS_BYTES:])
        try:
            if length != self._ring_bytes:
                raise RdmaError(f"it has {length} bytes, ours have {self._ring_bytes}; make rdma_ring_mib equal everywhere")
            outgoing = _Outgoing(self._card, ring, Memory(address, length, rkey))
        except RdmaError as error:
            log.error("ring of %s: %s", follower, error)
            return None
        try:
            outgoing.connection.connect(offer[:ADDRESS_BYTES], 0, self._patience)
        except RdmaError as error:
            log.warning("ring of %s: %s", follower, error)
            outgoing.close()
            return None
        self._outgoing[follower] = outgoing
        self._loop.add_reader(outgoing.connection.fd, self._completions, follower, outgoing)
        return outgoing.connection.address

    def write(self, follower: str, frame: bytes) -> int | None:
        outgoing = self._outgoing[follower]
        number = outgoing.number + 1
        try:
            head = outgoing.connection.frame(outgoing.region, outgoing.place, outgoing.ring, outgoing.tail, outgoing.head, frame, number)
        except RdmaError as error:
            self._refused(follower, outgoing, error)
            head = outgoing.head
        if head is None:
            return None
        outgoing.number, outgoing.head = number, head
        return number

    def read(self, follower: str) -> None:
        outgoing = self._outgoing[follower]
        place = outgoing.place
        if outgoing.reading:
            return
        try:
            outgoing.reading = outgoing.connection.read(
                outgoing.region, place.length, _READ_UP_TO.size + COUNTERS_BYTES, place.address + place.length, place.rkey, READ
            )
        except RdmaError as error:
            self._refused(follower, outgoing, error)

    def _refused(self, follower: str, outgoing: _Outgoing, error: RdmaError) -> None:
        """The card refuses requests for this connection. Report it like any failed write, but not from within this call."""
        log.warning("ring of %s: %s", follower, error)
        self._loop.call_soon(self._events.written, follower, outgoing.ring, outgoing.number, False)

    def _completions(self, follower: str, outgoing: _Outgoing) -> None:
        outgoing.connection.arm()
        while self._outgoing.get(follower) is outgoing and (done := outgoing.connection.poll()):
            bad = next((one for one in done if one.status), None)
            if bad:
                log.warning("ring of %s: %s", follower, self._why(bad.status))
                return self._events.written(follower, outgoing.ring, bad.number, False)
            writes = [one.number for one in done if one.number and one.number != READ]
            if writes:
                self._events.written(follower, outgoing.ring, writes[-1], True)
            if any(one.number == READ for one in done) and self._outgoing.get(follower) is outgoing:
                self._counters(follower, outgoing)

    def _counters(self, follower: str, outgoing: _Outgoing) -> None:
        outgoing.reading = False
        at = outgoing.place.length
        data = outgoing.buffer[at : at + _READ_UP_TO.size + COUNTERS_BYTES]
        tail = _READ_UP_TO.unpack_from(data)[0]
        if outgoing.tail <= tail <= outgoing.head:  # anything else is no position of this ring
            outgoing.tail = tail
        self._events.counters_read(follower, outgoing.ring, data[_READ_UP_TO.size :])

    @staticmethod
    def _why(status: int) -> str:
        return f"{status_name(status)}: the follower took back the permission, has ended, or cannot be reached"

    def close(self, follower: str) -> None:
        outgoing = self._outgoing.pop(follower)
        self._loop.remove_reader(outgoing.connection.fd)
        outgoing.close()

    def shutdown(self) -> None:
        for follower in list(self._outgoing):
            self.close(follower)
        for leader, incoming in self._incoming.items():
            self.revoke(leader)
            incoming.region.close()
        self._card.close()
