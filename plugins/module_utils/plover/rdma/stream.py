# SPDX-License-Identifier: GPL-3.0-or-later
"""plover.protocol.pipe over a real card: the peer writes a ring in our memory, and we write a ring in its memory."""

from __future__ import annotations

import asyncio
import logging
import mmap
import struct
from collections.abc import Callable

from ..errors import RdmaError, WireError
from ..protocol.pages import PageRun
from ..protocol.pipe import Pipe
from .library import ADDRESS_BYTES, REMOTE_WRITE, Card, Memory, Patience, Region, RingReader, status_name
from .ring_watch import RingWatch

log = logging.getLogger("plover")
DEPTH = 512
FRAMES_AT_ONCE = 64  # then the event loop's other work has its turn
_PLACE = struct.Struct("<QQIQ")  # our ring's address, length, rkey, id
PIPE_BYTES = ADDRESS_BYTES + _PLACE.size


class RdmaPipe:
    """First call :meth:`connect` with the peer's ``address``. Send only once the peer has connected, too.

    Callbacks: on_data(bytes), on_writable(), on_broken(why).
    """

    def __init__(
        self,
        card: Card,
        ring: int,
        ring_bytes: int,
        patience: Patience,
        on_data: Callable[[bytes], None],
        on_writable: Callable[[], None],
        on_broken: Callable[[str], None],
        high_water: int,
        limit: int,
        guest: Callable[[], Region | None] = lambda: None,
    ) -> None:
        """``guest``: returns the registered guest memory, for pages that are sent without a copy."""
        self._guest = guest
        self._ring, self.ring_bytes, self._patience = ring, ring_bytes, patience
        self._on_broken, self._loop = on_broken, asyncio.get_running_loop()
        self._in, self._out = mmap.mmap(-1, ring_bytes), mmap.mmap(-1, ring_bytes)
        self._theirs: Memory
        self._regions = [card.region(self._in, REMOTE_WRITE), card.region(self._out)]
        self._connection = card.connection(DEPTH)
        self._reader = RingReader(self._in, ring_bytes, ring)
        self._watch: RingWatch | None = None
        self._pipe = Pipe(self, on_data, on_writable, high_water, limit)
        self._head, self._number, self._their_ring = ring_bytes, 0, 0
        self._closed = False
        place = self._regions[0].memory
        self.address = self._connection.address + _PLACE.pack(place.address, ring_bytes, place.rkey, ring)

    def connect(self, peer: bytes) -> None:
        """Raises RdmaError."""
        if len(peer) != PIPE_BYTES:
            raise RdmaError(f"a pipe's address of {len(peer)} bytes, {PIPE_BYTES} are right; install one version everywhere")
        address, length, rkey, self._their_ring = _PLACE.unpack(peer[ADDRESS_BYTES:])
        if length != self.ring_bytes:
            raise RdmaError(f"the peer's ring has {length} bytes, ours {self.ring_bytes}; make rdma_ring_mib equal everywhere")
        self._theirs = Memory(address, length, rkey)
        self._connection.connect(peer[:ADDRESS_BYTES], REMOTE_WRITE, self._patience)
        self._loop.add_reader(self._connection.fd, self._completions)
        self._watch = RingWatch(self._reader, self._loop, self._look, "pipe")

    # ---- out --------------------------------------------------------------------------------------
    @property
    def writable(self) -> bool:
        return self._pipe.writable

    def send(self, buffers: list[bytes | PageRun]) -> None:
        self._pipe.send(buffers)

    def write(self, frame: bytes, read_up_to: int, keep: int) -> int | None:
        return self._put(self._connection.frame, (frame,), read_up_to, keep)

    def _put(self, put: Callable[..., int | None], what: tuple[object, ...], read_up_to: int, keep: int) -> int | None:
        if self._closed or self._head - read_up_to + keep > self.ring_bytes:
            return None
        try:
            head = put(self._regions[1], self._theirs, self._their_ring, read_up_to - keep, self._head, *what, self._number + 1)
        except RdmaError as error:
            self._loop.call_soon(self._broken, str(error))  # not from within the caller's send
            return None
        if head is not None:
            self._number, self._head = self._number + 1, head
        return head

    def write_pages(self, run: PageRun, read_up_to: int, keep: int) -> int | None:
        guest = self._guest()
        if guest is None:  # the VM has ended since, so the syncvm that these pages belong to is given up
            self._loop.call_soon(self._broken, "the VM has ended before its pages were sent")
            return None
        return self._put(self._connection.pages, (guest, run.index), read_up_to, keep)

    def _completions(self) -> None:
        self._connection.arm()
        while not self._closed and (done := self._connection.poll()):
            bad = next((one for one in done if one.status), None)
            if bad:
                return self._broken(f"{status_name(bad.status)}: the other replica has ended, or cannot be reached")
        if not self._closed:
            self._pipe.flush()

    # ---- in ---------------------------------------------------------------------------------------
    def _look(self) -> None:
        try:
            for _frame in range(FRAMES_AT_ONCE):
                frame = None if self._closed else self._reader.next()
                if frame is None:
                    return
                self._pipe.received(frame, self._reader.position, self._reader.raw)
        except WireError as error:
            self._broken(str(error))

    def _broken(self, why: str) -> None:
        if not self._closed:
            self.close()
            self._on_broken(why)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._watch:
            self._watch.stop()
            self._loop.remove_reader(self._connection.fd)
        self._connection.close()
        for region in self._regions:
            region.close()
