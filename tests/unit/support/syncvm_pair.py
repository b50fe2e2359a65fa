# SPDX-License-Identifier: GPL-3.0-or-later
"""Both sides of syncvms over real memory and the native library; messages go through their wire format."""

from __future__ import annotations

import random
from array import array
from collections import deque

from plover.native import guest_memory as memory
from plover.native import zstd
from plover.ports import effects
from plover.protocol import codec, wire
from plover.protocol import pages as pg
from plover.syncvm.leader import LeaderSyncvm
from plover.syncvm.secondary import SecondarySyncvm

STATE = random.Random(3).randbytes(3000)  # of devices
PAGES = 320  # more than goes into one message
CONTENT = random.Random(7).randbytes(PAGES * pg.PAGE_BYTES)


class Memory(memory.GuestMemory):
    """Written pages are told, not tracked. ``block_bits``: of the 16 of a block's hash, those that are looked at."""

    def __init__(self, path) -> None:
        super().__init__(PAGES, 2)
        path.write_bytes(CONTENT)
        self.map(path)
        self.written: set[int] = set()
        self.block_bits = 16

    def write(self, page: int, at: int, data: bytes) -> None:
        self.written.add(page)
        begin = page * pg.PAGE_BYTES + at
        self.ram.map[begin : begin + len(data)] = data

    def fetch_dirty(self) -> bytearray:
        out, self.written = self.bitmap_of(array("I", sorted(self.written)), PAGES), set()
        return out

    def put_back(self, bitmap: bytes) -> None:
        self.written |= set(self.pages_of(bitmap))

    def hash_blocks(self, index: array) -> array:
        return array("H", (x & (1 << self.block_bits) - 1 for x in super().hash_blocks(index)))

    def block_masks(self, index: array, theirs: array) -> array:
        if self.block_bits == 16:
            return super().block_masks(index, theirs)
        ours = self.hash_blocks(index)
        return array("Q", (sum((ours[64 * n + k] != theirs[64 * n + k]) << k for k in range(64)) for n in range(len(index))))


class Pair:
    """One syncvm after the other between two memories. ``heard``: every message; ``spoil`` may change one."""

    def __init__(self, folder) -> None:
        folder.mkdir(exist_ok=True)
        self.memories = Memory(folder / "leader"), Memory(folder / "secondary")
        self.number = 0
        self.bases = [b"", b""]
        self.spoil = lambda message: message

    def reset(self) -> None:
        for one in self.memories:
            one.ram.map[:], one.written, one.block_bits = CONTENT, set(), 16
        self.bases = [b"", b""]

    def syncvm(self, device: bytes = b"device", audit: int = 0) -> LeaderSyncvm:
        self.number += 1
        self.heard: list[wire.Message] = []
        self.loaded = None
        self.sides = (
            LeaderSyncvm(1, self.number, audit, self.memories[0], self.bases[0]),
            SecondarySyncvm(1, self.number, self.memories[1], self.bases[1]),
        )
        self.work: deque = deque()
        leader, secondary = self.sides
        leader.start(0.0), leader.drained(0.0)
        secondary.start(0.0), secondary.drained()
        for n, side in enumerate(self.sides):
            self._do(n, side.vm_stopped())
        self._do(0, self.sides[0].device_saved(device))
        while self.work:
            n, call = self.work.popleft()
            self._do(n, call() or [])
        self.bases = [self.sides[0].device, self.sides[1].device]
        return self.sides[0]

    def _do(self, n: int, actions: list) -> None:
        side, mem = self.sides[n], self.memories[n]
        for action in actions:
            if isinstance(action, effects.SendData):
                sent = self.spoil(action.message)
                self.heard.append(sent)
                came = next(codec.Decoder(1).feed(b"".join(codec.encode(sent, 1))))
                self.work.append((1 - n, lambda m=came: self._hear(1 - n, m)))
            elif isinstance(action, effects.Hash):
                self.work.append((n, lambda index=action.index: side.hashed(mem.hash(index))))
            elif isinstance(action, effects.HashBlocks):
                self.work.append((n, lambda index=action.index: side.blocks_hashed(mem.hash_blocks(index))))
            elif isinstance(action, effects.Pack):
                self.work.append((n, lambda payloads=action.payloads: side.packed(list(map(zstd.compress, payloads)))))
            elif isinstance(action, effects.Yield):
                self.work.append((n, side.writable))
            elif isinstance(action, effects.ColoLoad):
                self.loaded = action.state

    def _hear(self, n: int, m: wire.Message) -> list:
        side = self.sides[n]
        handlers = {wire.Bitmap: side.on_bitmap}
        if n == 0:
            handlers.update(
                {
                    wire.Hashes: side.on_hashes,
                    wire.BlockHashes: side.on_block_hashes,
                    wire.Resend: side.on_resend,
                    wire.Staged: lambda m: side.on_staged(),
                }
            )
        else:
            handlers.update({wire.StageEnd: side.on_stage_end})
        return handlers.get(type(m), getattr(side, "on_staging", None))(m)

    def kinds(self) -> list[str]:
        return [type(m).__name__ for m in self.heard if not isinstance(m, (wire.Bitmap, wire.Hashes))]

    @property
    def equal(self) -> bool:
        return self.memories[0].ram.map[:] == self.memories[1].ram.map[:]


def diverge(pair, pages=range(100), data=b"other", at=100) -> None:
    for page in pages:
        pair.memories[1].write(page, at, data)
