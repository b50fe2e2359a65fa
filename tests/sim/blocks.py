# SPDX-License-Identifier: GPL-3.0-or-later
"""A simulated disk: the image of a host, and what one QEMU makes of it, as COLO's block replication does.

A leader writes to its image and, once attached, to the secondary's. There, what a write of the leader overwrites is put
into ``hidden``, and the secondary's own VM writes into ``active``, so that its VM sees the disk as its own writes made it
since the last checkpoint. A write waits for a secondary that does not answer, until it is detached.
"""
from __future__ import annotations

from collections.abc import Callable

BLOCKS = 3
GONE, SILENT, FINE = "gone", "silent", "fine"


class Drive:
    def __init__(self, image: list[int]) -> None:
        self.image = image
        self.active: dict[int, int] = {}
        self.hidden: dict[int, int] = {}
        self.secondary = False  # replication keeps its VM's writes apart
        self.exported = False
        self.peer: Drive | None = None
        self.reach: Callable[[], str] = lambda: GONE  # how the peer answers
        self.on_error: Callable[[], None] = lambda: None

    def read(self, block: int) -> int:
        return self.active.get(block, self.hidden.get(block, self.image[block]))

    @property
    def stuck(self) -> bool:
        return self.peer is not None and self.reach() == SILENT

    def write(self, block: int, value: int) -> None:
        if self.secondary:
            self.active[block] = value
            return
        self.image[block] = value
        if self.peer is not None:
            if self.reach() == FINE and self.peer.exported:
                self.peer.written_by_leader(block, value)
            else:
                self.on_error()

    def written_by_leader(self, block: int, value: int) -> None:
        if self.secondary:
            self.hidden.setdefault(block, self.image[block])
        self.image[block] = value

    def checkpoint(self) -> None:
        self.active.clear()
        self.hidden.clear()

    def promote(self) -> None:
        self.exported = False
        for block, value in {**self.hidden, **self.active}.items():
            self.image[block] = value
        self.checkpoint()
        self.secondary = False
