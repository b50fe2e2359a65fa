# SPDX-License-Identifier: GPL-3.0-or-later
"""A simulated disk: the image of a host, and what one QEMU makes of it, as COLO's block replication does.

A leader writes to its image and, once attached, to the secondary's. There, what a write of the leader overwrites is put
into ``hidden``, and the secondary's own VM writes into ``active``, so that its VM sees the disk as its own writes made it
since the last checkpoint. A write waits for a secondary that does not answer, until it is detached; writes that the daemon holds
wait on their way, in order. After a promotion both overlays are merged into the image; until that is over the VM writes into ``active``.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from plover.errors import InvariantViolation

BLOCKS = 12
TORN = 1 << 40  # no guest ever wrote that
GONE, SILENT, FULL, FINE = "gone", "silent", "full", "fine"


class Drive:
    def __init__(self, image: list[int], unsynced: set[int]) -> None:
        self.image, self.unsynced = image, unsynced
        self.active: dict[int, int] = {}
        self.hidden: dict[int, int] = {}
        self.secondary = False  # replication keeps its VM's writes apart
        self.exported = False
        self.peer: Drive | None = None
        self.bitmap, self.bitmap_name = set(range(BLOCKS)), ""  # blocks written since the copy of this name
        self.promoted = self.merging = False
        self.fails: Callable[[], bool] = lambda: False  # does the image take no writes?
        self.lost = False  # a write that the VM took for done is on the peer's image only
        self.on_lost: Callable[[], None] = lambda: None
        self.reach: Callable[[], str] = lambda: GONE  # how the peer answers
        self.peer_failed = False  # it lacks a write since it was attached
        self.held: list[tuple[int, int]] | None = None  # writes that wait on their way to the peer; None: they do not wait

    def read(self, block: int) -> int:
        return self.active.get(block, self.hidden.get(block, self.image[block]))

    @property
    def stuck(self) -> bool:
        return self.peer is not None and self.reach() == SILENT

    @property
    def under_way(self) -> bool:
        """A write has not ended."""
        return self.stuck or bool(self.peer is not None and self.held)

    def write(self, block: int, value: int) -> None:
        if self.secondary or self.merging:
            self.active[block] = value
            return
        if self.peer is not None and self.fails():  # without a peer, the guest is told
            self.lost = True
            self.on_lost()
        else:
            self._store(block, value)
        self.bitmap.add(block)
        if self.peer is not None and self.held is not None:
            self.held.append((block, value))
        elif self.peer is not None:
            self._to_peer(self.peer, block, value)

    def _to_peer(self, peer: Drive, block: int, value: int) -> None:
        if self.reach() == FINE and peer.exported:
            peer.written_by_leader(block, value)
        else:
            self.peer_failed = True  # QEMU tells only if asked

    def hold(self) -> None:
        if self.peer is not None:
            self.held = self.held or []

    def pass_on(self) -> None:
        held, self.held = self.held or [], None
        for block, value in held:
            if self.peer is not None:
                self._to_peer(self.peer, block, value)

    def detach(self) -> None:
        self.peer, self.held = None, None

    def written_by_leader(self, block: int, value: int) -> None:
        if self.secondary:
            self.hidden.setdefault(block, self.image[block])
        self._store(block, value)

    def _store(self, block: int, value: int) -> None:
        self.image[block] = value
        self.unsynced.add(block)

    # ---- the copy to a secondary ------------------------------------------------------------------
    def copy_to(self, peer: Drive, held: tuple[str, ...], name: str, rng: random.Random) -> None:
        """Part of it: the bitmap has the other blocks, all of them still wrong."""
        if self.lost or self.merging:
            raise InvariantViolation(f"a disk is copied that {'lost a write' if self.lost else 'is not merged yet'}")
        if self.bitmap_name not in held:
            self.bitmap = set(range(BLOCKS))
        self.bitmap_name = name
        for block in sorted(self.bitmap):
            sent = rng.random() < 0.5
            peer._store(block, self.read(block) if sent else TORN)
            if sent:
                self.bitmap.discard(block)

    def attach(self, peer: Drive) -> None:
        for block in self.bitmap:
            peer._store(block, self.read(block))
        self.bitmap, self.peer, self.peer_failed, self.held = set(), peer, False, None

    def checkpoint(self) -> None:
        self.active.clear()
        self.hidden.clear()

    def promote(self) -> None:
        self.exported, self.promoted, self.secondary, self.merging = False, True, False, True

    def merge(self) -> None:
        for block, value in {**self.hidden, **self.active}.items():
            self._store(block, value)
            self.bitmap.add(block)
        self.checkpoint()
        self.merging = False
