# SPDX-License-Identifier: GPL-3.0-or-later
"""The replicated log: consecutive entries after ``base_index``, truncated at every committed syncvm.

It orders the VM's input and is kept in memory. Released output survives because of the syncvm, not of the log:
an input that is lost with its leader was never answered, and the client's TCP sends it again.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from ..errors import InvariantViolation, WireError
from ..protocol import wire

APPEND_BYTES_MAX = 1 << 20  # an Append ends with the entry that reaches this size
INPUT, SYNCVM, AUDIT = 1, 2, 3  # entry kinds; SYNCVM and AUDIT carry a u64 number
_HEAD = struct.Struct("!QQBI")
NUMBER = struct.Struct("!Q")


class Entry(NamedTuple):
    """``index`` 1-based, ``view`` of the leader that wrote it, ``payload`` opaque bytes."""

    index: int  # type: ignore[assignment]  # tuple has a method of that name; nobody calls it
    view: int
    kind: int
    payload: bytes


class Log:
    def __init__(self, base_index: int = 0, base_view: int = 0) -> None:
        self._agreed = (-1, -1)  # (view, index), see agreed_index
        self.reset(base_index, base_view)

    def reset(self, base_index: int, base_view: int) -> None:
        self.base_index, self.base_view = base_index, base_view
        self.last_index = base_index
        self._entries: deque[Entry] = deque()
        self.bytes = 0

    @property
    def last_view(self) -> int:
        return self._entries[-1].view if self._entries else self.base_view

    def view_at(self, index: int) -> int | None:
        """View of entry ``index``; None if it is not held."""
        if index == self.base_index:
            return self.base_view
        return self[index].view if self.base_index < index <= self.last_index else None

    def __getitem__(self, index: int) -> Entry:
        return self._entries[index - self.base_index - 1]

    def after(self, index: int) -> list[Entry]:
        """Entries with a larger index, oldest first."""
        skip = max(0, index - self.base_index)
        return [self._entries[i] for i in range(skip, len(self._entries))]

    def part_after(self, index: int) -> list[Entry]:
        """As :meth:`after`, but only as many as fit one Append."""
        out, size = [], 0
        for entry in self.after(index):
            out.append(entry)
            size += len(entry.payload)
            if size >= APPEND_BYTES_MAX:
                break
        return out

    def append(self, entry: Entry) -> None:
        if entry.index != self.last_index + 1:
            raise InvariantViolation(f"log gap: entry {entry.index} after {self.last_index}")
        self._entries.append(entry)
        self.last_index = entry.index
        self.bytes += len(entry.payload)

    def _take_in(self, entries: list[Entry], agreed: int) -> None:
        """Add a leader's entries to our log, which agrees with the leader's up to ``agreed``. WireError if they contradict that.

        Only entries that conflict are deleted (Raft §5.3). We acknowledged the others, so they may be committed, and a
        message that comes late or twice must not remove them.
        """
        for entry in entries:
            held = self.view_at(entry.index)
            if held == entry.view or entry.index < self.base_index:  # truncated since: a syncvm covers it
                continue
            if entry.index <= agreed:
                raise WireError(f"entry {entry.index} of view {entry.view}: the same leader sent it before with view {held}")
            self.cut_after(entry.index - 1)
            self.append(entry)

    def follow(self, m: wire.Append) -> int | None:
        """Add the entries of the leader of ``m.view``. Up to the returned index our log then agrees with the leader's.
        None: ``m`` does not continue our log. WireError if ``m`` contradicts itself or the leader.
        """
        entries = unpack(m.payload)
        check_views(m.prev_view, entries, m.view)
        if entries and entries[0].index != m.prev_index + 1:
            raise WireError(f"entries start at {entries[0].index}, announced after {m.prev_index}")
        agreed = self.agreed_index(m.view)
        if m.prev_index > agreed and self.view_at(m.prev_index) != m.prev_view:
            if not m.reset:
                return None
            self.reset(m.prev_index, m.prev_view)
        self._take_in(entries, agreed)
        agreed = max(agreed, m.prev_index + len(entries))
        if sum(len(entry.payload) for entry in entries) < APPEND_BYTES_MAX:
            # The leader has no more entries. Ours beyond are an older leader's tail and were never committed.
            self.cut_after(agreed)
        self._agreed = (m.view, agreed)
        return agreed

    def agreed_index(self, view: int) -> int:
        """Up to this index our log agrees with the log of the leader of ``view``; -1 while that is unknown."""
        return self._agreed[1] if self._agreed[0] == view else -1

    def cut_after(self, index: int) -> None:
        """Forget entries with a larger index (a new leader overrules them)."""
        while self.last_index > max(index, self.base_index):
            self.bytes -= len(self._entries.pop().payload)
            self.last_index -= 1

    def truncate(self, index: int) -> None:
        """Forget entries up to and including ``index``: a syncvm covers them."""
        while self._entries and self._entries[0].index <= index:
            entry = self._entries.popleft()
            self.base_index, self.base_view = entry.index, entry.view
            self.bytes -= len(entry.payload)


def pack(entries: Iterable[Entry]) -> bytes:
    parts: list[bytes] = []
    for entry in entries:
        parts += (_HEAD.pack(entry.index, entry.view, entry.kind, len(entry.payload)), entry.payload)
    return b"".join(parts)


def last_index(data: bytes, none: int) -> int:
    """Index of the last entry that :func:`pack` packed into ``data``; ``none`` if it has no entry."""
    index, offset = none, 0
    while offset < len(data):
        index, _view, _kind, length = _HEAD.unpack_from(data, offset)
        offset += _HEAD.size + length
    return index


def check_views(before: int, entries: list[Entry], sender: int) -> None:
    """Views in a log never go back, and none is later than the view of the member that sent it. Raises WireError."""
    for view in (*(entry.view for entry in entries), sender):
        if view < before:
            raise WireError(f"log entries of view {before} before view {view}, in a message of view {sender}")
        before = view


def unpack(data: bytes) -> list[Entry]:
    """Inverse of :func:`pack`; raises WireError on anything else."""
    out: list[Entry] = []
    offset = 0
    while offset < len(data):
        if len(data) - offset < _HEAD.size:
            raise WireError("truncated log entry head")
        index, view, kind, length = _HEAD.unpack_from(data, offset)
        offset += _HEAD.size
        if length > len(data) - offset:
            raise WireError(f"truncated log entry {index}: {length} bytes announced, {len(data) - offset} there")
        if kind not in (INPUT, SYNCVM, AUDIT) or (kind != INPUT and length != NUMBER.size):
            raise WireError(f"log entry {index} of unknown kind {kind} or wrong length {length}")
        if out and index != out[-1].index + 1:
            raise WireError(f"log entries out of order: {index} after {out[-1].index}")
        out.append(Entry(index, view, kind, data[offset : offset + length]))
        offset += length
    return out
