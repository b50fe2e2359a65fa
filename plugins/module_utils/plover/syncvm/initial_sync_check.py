# SPDX-License-Identifier: GPL-3.0-or-later
"""The end of an initial sync: all of guest memory is hashed on both hosts and compared while both VMs stand still. Sans-I/O.

An initial sync relies on dirty tracking while the VM runs. Without this check, a write that the tracker missed, or a page torn
on its way, would be recorded as in sync, and a failover would use it. So nothing is recorded before all pages are equal.

Memory is hashed in parts: the secondary's hashes travel while the next part is hashed, and no message is too long.
"""

from __future__ import annotations

from array import array

from ..errors import WireError
from ..ports import effects
from ..protocol import wire

PART_PAGES = 1 << 18  # 1 GiB of guest memory, 2 MiB of hashes


class _Hashing:
    def __init__(self, tag: effects.Tag, memory: effects.Memory) -> None:
        self.tag, self._memory, self._done = tag, memory, 0

    def start(self) -> list[effects.Effect]:
        return self._next()

    def _next(self) -> list[effects.Effect]:
        part = array("I", range(self._done, min(self._done + PART_PAGES, self._memory.pages)))
        return [effects.Hash(self.tag, part)] if part else []


class LeaderCheck(_Hashing):
    def __init__(self, tag: effects.Tag, memory: effects.Memory) -> None:
        super().__init__(tag, memory)
        self._ours, self._theirs = array("Q"), array("Q")

    def hashed(self, hashes: array[int]) -> list[effects.Effect]:
        self._ours += hashes
        self._done += len(hashes)
        return self._next()

    def on_hashes(self, m: wire.FillHashes) -> None:
        count, rest = divmod(len(m.payload), 8)
        if rest or not count or len(self._theirs) + count > self._memory.pages:
            raise WireError(f"{len(m.payload)} bytes of hashes after {len(self._theirs)} of {self._memory.pages} pages")
        self._theirs.frombytes(m.payload)

    @property
    def complete(self) -> bool:
        return len(self._ours) == len(self._theirs) == self._memory.pages

    def differing(self) -> array[int]:
        return self._memory.compare(self._ours, self._theirs)


class SecondaryCheck(_Hashing):
    def __init__(self, view: int, join: int, tag: effects.Tag, memory: effects.Memory) -> None:
        super().__init__(tag, memory)
        self._view, self._join = view, join

    def hashed(self, hashes: array[int]) -> list[effects.Effect]:
        self._done += len(hashes)
        return [effects.SendData(wire.FillHashes(self._view, self._join, hashes.tobytes())), *self._next()]

    @property
    def complete(self) -> bool:
        return self._done == self._memory.pages
