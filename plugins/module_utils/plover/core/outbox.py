# SPDX-License-Identifier: GPL-3.0-or-later
"""Output that is safe and has not left yet, in order. Pure.

It leaves in slices. Between two of them the daemon reads what other members sent, so each slice is sent by a leader that knows
to lead. What could not leave in time comes back and waits for its next turn; nothing is dropped here.
"""

from __future__ import annotations

from collections import deque

from ..errors import InvariantViolation

SLICE_BYTES = 64 << 10


class Outbox:
    def __init__(self) -> None:
        self._waiting: deque[bytes] = deque()
        self._leaving_bytes = 0
        self._slices = 0
        self.bytes = 0  # what is leaving counts, too

    @property
    def waits(self) -> bool:
        """Something could leave, and nothing is just leaving."""
        return bool(self._waiting) and not self._leaving_bytes

    def put(self, chunks: list[bytes]) -> None:
        """``chunks``: runs of whole frames."""
        self._waiting.extend(chunks)
        self.bytes += sum(map(len, chunks))

    def slice(self) -> tuple[int, list[bytes]]:
        """The next chunks to send, about SLICE_BYTES, and their number for :meth:`left`."""
        if not self.waits:
            raise InvariantViolation("a slice of output was asked for, and there is none to give")
        out: list[bytes] = []
        while self._waiting and self._leaving_bytes < SLICE_BYTES:
            out.append(self._waiting.popleft())
            self._leaving_bytes += len(out[-1])
        self._slices += 1
        return self._slices, out

    def left(self, number: int, rest: list[bytes]) -> None:
        """Slice ``number`` has left, but for ``rest``: its last frames, which came too late. Answers of another outbox are ignored."""
        if number != self._slices or not self._leaving_bytes:
            return
        rest_bytes = sum(map(len, rest))
        if rest_bytes > self._leaving_bytes:
            raise InvariantViolation(f"{rest_bytes} bytes came back of a slice of {self._leaving_bytes}")
        self._waiting.extendleft(reversed(rest))
        self.bytes -= self._leaving_bytes - rest_bytes
        self._leaving_bytes = 0
