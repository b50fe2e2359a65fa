# SPDX-License-Identifier: GPL-3.0-or-later
"""A byte stream in each direction between the two replicas: the data channel with ``transport: rdma``. Each replica writes
into a ring in the other's memory. The bytes are the same as over TCP; they never land in guest memory. Sans-I/O.

The first byte of a frame tells its kind: a part of the stream, or a position: how far its sender has read the other ring.
Without that the ring's writer would not know what it may overwrite. Some room in each ring is kept free for positions.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable
from typing import Protocol

from ..errors import WireError
from .pages import PAGE_BYTES, PageRun

STREAM, READ_UP_TO = b"s", b"r"
PART_BYTES_MAX = 256 << 10
RUN_PAGES_MAX = PART_BYTES_MAX // PAGE_BYTES
KEPT_BYTES = 4096  # of each ring, kept free for READ_UP_TO
_POSITION = struct.Struct("<Q")


class Wire(Protocol):
    """The ring at the other replica."""

    ring_bytes: int

    def write(self, frame: bytes, read_up_to: int, keep: int) -> int | None:
        """Write a frame without overwriting anything after ``read_up_to``, and leave ``keep`` bytes free. Returns the position
        after the frame. None: there is no room.
        """

    def write_pages(self, run: PageRun, read_up_to: int, keep: int) -> int | None:
        """As :meth:`write`, for pages that the card itself reads: a raw frame."""


class Pipe:
    def __init__(self, wire: Wire, on_data: Callable[[bytes], None], on_writable: Callable[[], None], high_water: int, limit: int) -> None:
        """With more than ``high_water`` unsent bytes, :attr:`writable` is False until all are sent. With more than ``limit``,
        :meth:`send` raises OverflowError.
        """
        self._wire, self._on_data, self._on_writable = wire, on_data, on_writable
        self._high_water, self._limit = high_water, limit
        self._unsent: deque[bytes | PageRun] = deque()
        self.unsent_bytes = 0
        self._theirs = wire.ring_bytes  # how far they have read their ring
        self._told = self._read = wire.ring_bytes  # how far we have read ours, and how far they know it
        self.writable = True

    def send(self, buffers: list[bytes | PageRun]) -> None:
        """Send in order, after all earlier buffers."""
        for buffer in buffers:
            if isinstance(buffer, PageRun):
                self._unsent += buffer.split(RUN_PAGES_MAX)
                continue
            view = memoryview(buffer)
            for at in range(0, len(view), PART_BYTES_MAX):
                self._unsent.append(STREAM + view[at : at + PART_BYTES_MAX])
        self.unsent_bytes = sum(map(len, self._unsent))
        if self.unsent_bytes > self._limit:
            raise OverflowError(f"over {self._limit} bytes unsent")
        self.flush()

    def flush(self) -> None:
        """Write as much as there is room for."""
        while self._unsent:
            first = self._unsent[0]
            if isinstance(first, PageRun):
                position = self._wire.write_pages(first, self._theirs, KEPT_BYTES)
            else:
                position = self._wire.write(first, self._theirs, KEPT_BYTES)
            if position is None:
                break
            self.unsent_bytes -= len(self._unsent.popleft())
        if self.unsent_bytes > self._high_water:
            self.writable = False
        elif not self.writable and not self._unsent:
            self.writable = True
            self._on_writable()

    def received(self, frame: bytes, position: int, raw: bool = False) -> None:
        """The next frame, which ends at ``position``. ``raw``: all of it is a part of the stream. Raises WireError if no pipe
        sends such a frame.
        """
        self._read = position
        if raw:
            self._on_data(frame)
        elif frame[:1] == READ_UP_TO and len(frame) == 1 + _POSITION.size:
            theirs = _POSITION.unpack_from(frame, 1)[0]
            if theirs < self._theirs:  # positions only grow
                raise WireError(f"the peer has read up to {theirs}, and before up to {self._theirs}")
            self._theirs = theirs
            self.flush()
        elif frame[:1] == STREAM:
            self._on_data(frame[1:])
        else:
            raise WireError(f"a frame of kind {frame[:1]!r} in a pipe")
        if self._read - self._told > self._wire.ring_bytes // 4:
            self.tell()

    def tell(self) -> None:
        """Tell the other replica how far we have read."""
        if self._wire.write(READ_UP_TO + _POSITION.pack(self._read), self._theirs, 0) is not None:
            self._told = self._read
