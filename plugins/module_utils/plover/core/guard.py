# SPDX-License-Identifier: GPL-3.0-or-later
"""The guard: holds all output of the VM until the state behind it is safe (docs/ARCHITECTURE.md, invariant 2).

Output is held in order. A *mark* says: all output held now waits for condition N. Conditions are met in order;
:meth:`release` hands out the output that a met condition covers, and refuses anything else. Output without a mark may be
taken by its number: it is safe for another reason.
Bounded: beyond ``bytes_max`` new output is dropped and counted, as on a full wire; TCP sends it again.
"""

from __future__ import annotations

from array import array
from collections import deque

from ..errors import InvariantViolation


class Guard:
    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._unmarked: dict[int, tuple[float, bytes]] = {}  # number -> since when, output
        self._marked: deque[tuple[int, dict[int, tuple[float, bytes]]]] = deque()  # mark -> what it covers, in the same form
        self._last_number = self._last_mark = 0
        self._overdue = 0  # up to this number, output had a mark once whose condition was not met
        self.bytes = 0
        self.dropped_bytes = 0
        self.unmarked_bytes = 0

    def hold(self, output: bytes, now: float, beside_bytes: int = 0) -> int:
        """Keep ``output`` (whole frames as QEMU sent them). Returns its number; 0 if it was dropped because the guard is full.

        ``beside_bytes``: of output that was released and has not left yet. It counts as held.
        """
        if self.bytes + beside_bytes + len(output) > self._bytes_max:
            self.dropped_bytes += len(output)
            return 0
        self._last_number += 1
        self._unmarked[self._last_number] = (now, output)
        self.bytes += len(output)
        self.unmarked_bytes += len(output)
        return self._last_number

    def hold_each(self, frames: list[bytes], now: float, beside_bytes: int = 0) -> array[int]:
        """Keep each of ``frames`` as :meth:`hold` does. Returns their numbers, as an array "Q"."""
        total_bytes = sum(map(len, frames))
        if self.bytes + beside_bytes + total_bytes > self._bytes_max:
            return array("Q", [self.hold(frame, now, beside_bytes) for frame in frames])
        numbers = range(self._last_number + 1, self._last_number + 1 + len(frames))
        self._unmarked.update(zip(numbers, [(now, frame) for frame in frames]))
        self._last_number += len(frames)
        self.bytes += total_bytes
        self.unmarked_bytes += total_bytes
        return array("Q", numbers)

    @property
    def oldest_unmarked_s(self) -> float | None:
        """Since when the oldest output without a mark has been held; 0.0 if it had one once."""
        return 0.0 if self._unmarked and next(iter(self._unmarked)) <= self._overdue else self._oldest(self._unmarked)

    @property
    def held_since(self) -> float | None:
        """Since when the oldest output has been held; None if nothing is."""
        held = (*(covered for _mark, covered in self._marked), self._unmarked)
        return next((self._oldest(items) for items in held if items), None)

    @staticmethod
    def _oldest(items: dict[int, tuple[float, bytes]]) -> float | None:
        return next(iter(items.values()))[0] if items else None

    @property
    def unmarked_count(self) -> int:
        """Pieces of output without a mark."""
        return len(self._unmarked)

    def take(self, number: int) -> tuple[float, bytes]:
        """Output that has no mark, and since when it was held; the caller vouches that it may leave."""
        if number not in self._unmarked:
            raise InvariantViolation(f"output {number} was asked for, which is not held without a mark")
        since, output = self._unmarked.pop(number)
        self.bytes -= len(output)
        self.unmarked_bytes -= len(output)
        return since, output

    def make_room(self, output_bytes: int) -> None:
        """Forget the oldest output without a mark until ``output_bytes`` more fit: clients have most of it already."""
        while self._unmarked and self.bytes + output_bytes > self._bytes_max:
            self.take(next(iter(self._unmarked)))

    def mark(self) -> int:
        """A new condition that covers everything held so far. Returns its id, for :meth:`release`."""
        self._last_mark += 1
        self._marked.append((self._last_mark, self._unmarked))
        self._unmarked, self.unmarked_bytes = {}, 0
        return self._last_mark

    def release(self, mark: int) -> list[bytes]:
        """The output covered by ``mark`` and the marks before it; the caller vouches that their conditions are met."""
        if not self._marked or mark > self._marked[-1][0]:
            raise InvariantViolation(f"release of mark {mark}, which was never set")
        out: list[bytes] = []
        while self._marked and self._marked[0][0] <= mark:
            out += [output for _since, output in self._marked.popleft()[1].values()]
        self.bytes -= sum(map(len, out))
        return out

    def unmark(self) -> None:
        """Remove all marks, as their conditions will not be met; the output stays held."""
        if self._marked:
            self._unmarked = {number: item for _mark, covered in (*self._marked, (0, self._unmarked)) for number, item in covered.items()}
            self._marked.clear()
            self._overdue = self._last_number
            self.unmarked_bytes = self.bytes

    def discard(self) -> int:
        """Throw everything away: a secondary's output, which the leader sends. Returns the bytes thrown away."""
        gone, self.bytes = self.bytes, 0
        self._unmarked, self.unmarked_bytes = {}, 0
        self._marked.clear()
        return gone
