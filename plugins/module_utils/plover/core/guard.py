# SPDX-License-Identifier: GPL-3.0-or-later
"""The guard: holds all output of the VM until the state behind it is safe (docs/ARCHITECTURE.md, invariant 2).

Output is held in order. A *mark* says: all output held now waits for condition N. Conditions are met in order;
:meth:`release` hands out the output that a met condition covers, and refuses anything else.
Bounded: beyond ``bytes_max`` new output is dropped and counted, as on a full wire; TCP sends it again.
"""

from __future__ import annotations

from collections import deque

from ..errors import InvariantViolation


class Guard:
    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._held: deque[bytes] = deque()
        # (mark id, chunks up to here, counted from the start, since when the oldest of its own has been held)
        self._marks: deque[tuple[int, int, float | None]] = deque()
        self._taken = 0  # chunks ever handed out or discarded
        self._next_mark = 1
        self.bytes = 0
        self.dropped_bytes = 0
        self.unmarked_bytes = 0
        self.oldest_unmarked_s: float | None = None
        self._unmarked_since: float | None = None  # the same, but not changed by unmark()

    def hold(self, output: bytes, now: float) -> bool:
        """Keep ``output`` (whole frames as QEMU sent them); False if it was dropped because the guard is full."""
        if self.bytes + len(output) > self._bytes_max:
            self.dropped_bytes += len(output)
            return False
        self._held.append(output)
        self.bytes += len(output)
        if not self.unmarked_bytes:
            self.oldest_unmarked_s = self._unmarked_since = now
        self.unmarked_bytes += len(output)
        return True

    def mark(self) -> int:
        """A new condition that covers everything held so far. Returns its id, for :meth:`release`."""
        self._marks.append((self._next_mark, self._taken + len(self._held), self._unmarked_since))
        self._nothing_unmarked()
        self._next_mark += 1
        return self._marks[-1][0]

    def release(self, mark: int) -> list[bytes]:
        """The output covered by ``mark`` and the marks before it; the caller vouches that their conditions are met."""
        if not self._marks or mark > self._marks[-1][0]:
            raise InvariantViolation(f"release of mark {mark}, which was never set")
        upto = self._taken
        while self._marks and self._marks[0][0] <= mark:
            upto = self._marks.popleft()[1]
        out = [self._held.popleft() for _frame in range(upto - self._taken)]
        self._taken = upto
        self.bytes -= sum(map(len, out))
        return out

    def unmark(self) -> None:
        """Remove all marks, as their conditions will not be met; the output stays held."""
        if self._marks:
            self._unmarked_since = self.held_since
            self._marks.clear()
            self.unmarked_bytes = self.bytes
            self.oldest_unmarked_s = 0.0 if self.bytes else None

    def discard(self) -> int:
        """Throw everything away: a secondary's output, which the leader sends. Returns the bytes thrown away."""
        gone, self.bytes = self.bytes, 0
        self._taken += len(self._held)
        self._held.clear()
        self._marks.clear()
        self._nothing_unmarked()
        return gone

    def _nothing_unmarked(self) -> None:
        self.unmarked_bytes, self.oldest_unmarked_s, self._unmarked_since = 0, None, None

    @property
    def held_since(self) -> float | None:
        """Since when the oldest output has been held; None if nothing is."""
        return next((since for _mark, _upto, since in self._marks if since is not None), self._unmarked_since)
