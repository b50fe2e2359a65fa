# SPDX-License-Identifier: GPL-3.0-or-later
"""The guest of the simulated VM: a small key-value server whose whole state is in its pages and its device state.

Frames in: one operation of one connection; frames out: its answer. An operation that comes again (as TCP sends it again)
is answered again but not done again. A page is one number; some pages get different noise on each host, as clocks do.
"""

from __future__ import annotations

import random
import struct
import zlib
from array import array
from collections import deque

from plover.core.crash import MARK
from plover.errors import InvariantViolation, QemuError
from plover.native import zstd
from plover.protocol import pages as pg
from plover.syncvm import block_deltas as pt
from plover.syncvm import initial_sync as fill
from plover.syncvm import initial_sync_check as fill_check

from . import speech
from .blocks import BLOCKS, Drive
from .loop import Loop, Process

PAGES = 64
KEYS, CONNECTIONS = 3, 36
COUNTER, KEY0, CONNECTION0, DISK0, NOISE0 = 0, 1, 8, 44, 56  # DISK0: what the VM last wrote to each block
QUIET = 4  # the VM neither writes nor reads it, and it is no part of what a device state must fit
RING0 = PAGES - 4  # of the noise: the card's queue, which changes as QEMU sends what waited
REQUEST = struct.Struct("!HIBBII")  # connection, operation, kind, key, value, expected
READ, WRITE, CAS = 1, 2, 3
BYTES = 8  # of a page
_RAM = struct.Struct(f"!{PAGES}Q")
_DEVICE = struct.Struct("!QI")

# One number a page: the core does not care how large a page is, and a quick simulator finds more. One page at a time, so
# that a fill and a transfer take several turns, as those of a real guest do.
pg.PAGE_BYTES, pg.BLOCK_BYTES, pg.CHUNK_PAGES = BYTES, 1, 1
pt.PAGES_MIN = 2
fill.CHUNKS_PER_TURN, fill.FEW_PAGES = 1, 12
fill_check.PART_PAGES = 24

MAC = bytes.fromhex("525400706c01")  # of the VM, in front of what is sent to it


def wrap(frame: bytes) -> bytes:
    return len(frame).to_bytes(4, "big") + frame


class Qemu(Process):
    """One QEMU: memory, device state, whether the VM runs, what waits at its network socket on both sides."""

    def __init__(self, loop: Loop, rng: random.Random, incoming: bool) -> None:
        super().__init__(loop)
        self.rng = rng
        self.ram = [0] * PAGES
        self.dirty: set[int] = set()
        self.forgets = False  # a fault: each fetch while the VM runs forgets half of what was written
        self.computes = False  # its vCPU never rests, so it never is idle
        self.frames = 0  # device state: must always fit the counter in memory
        self.running = not incoming
        self.stopped_as = 0  # digest of the memory when the VM was stopped
        self.inbox: deque[bytes] = deque()
        self.outbox: list[bytes] = []
        self.on_output = None
        self.unsent: deque[bytes] = deque()  # frames that the socket did not take
        self.read_late_s = 0.0  # a fault: the daemon comes to read so late that the socket is full with one frame
        self._used = 0
        self._working = False
        self.drive: Drive | None = None
        self.spoke = False  # some of its output has left the host
        self.speech: speech.Speech | None = None  # its answers are TCP segments, and not always those of the other host's VM
        self.off = False  # its guest has powered itself off: it runs again after a reset only
        self.panicked = False  # its guest has: it answers nobody until a reset
        self.copy = ""  # name of the copy of a leader's disk that its image becomes

    # ---- the VM -----------------------------------------------------------------------------------
    def ends(self, panics: bool) -> str:
        """Its guest panics or powers itself off. Returns the event."""
        self.panicked, self.off = panics, not panics
        if not panics:
            self.running, self.stopped_as = False, self.digest()
        return "guest_panicked" if panics else "guest_off"

    def reset(self) -> None:
        """It boots, and finds all its data on its disk, as it were: so no history forks. What was on its way to it is lost."""
        self.off = self.panicked = False
        self.frames += 1  # its devices and its memory are of another moment
        self.write(COUNTER, self.frames)
        self.inbox.clear()

    @property
    def ended(self) -> bool:
        return self.off or self.panicked

    def run_on(self, promoted: bool = False) -> None:
        """A VM that is off runs on after a promotion, to no avail."""
        if self.off and not promoted:
            raise QemuError("QMP cont: Resetting the Virtual Machine is required")
        self.running = True
        self.wake()

    def write(self, page: int, value: int) -> None:
        self.ram[page] = value
        self.dirty.add(page)

    def feed(self, frames: list[bytes]) -> None:
        self.inbox.extend(frames)
        self.wake()

    @property
    def idle(self) -> bool:
        return self.ended or not (self.inbox or self.computes)

    def wake(self) -> None:
        if self.running and self.inbox and not (self._working or self.ended):
            self._working = True
            self._loop.after(0.0002 + 0.0015 * self.rng.random(), self, self._work)

    def _work(self) -> None:
        self._working = False
        if not self.running or not self.inbox or self.ended:
            return
        if self.drive is not None and self.drive.stuck:
            return self.wake()  # a write waits for the secondary
        if self.speech is not None and len(self.inbox) > 1 and self.inbox[0][:2] != self.inbox[1][:2] and self.speech.swaps():
            self.inbox[0], self.inbox[1] = self.inbox[1], self.inbox[0]
        answer = b"".join(map(wrap, self.serve(self.inbox.popleft())))
        if answer and self.on_output is not None:
            self._send(answer)
        self.wake()

    def _send(self, frame: bytes) -> None:
        if self.outbox and self.read_late_s or self.unsent:
            self.unsent.append(frame)
        else:
            self.outbox.append(frame)
            self._loop.after(max(0.0001, self.read_late_s), self, self.on_output)

    def take_output(self) -> bytes:
        """The daemon reads the whole socket. Then waiting frames have room, whether the VM runs or not."""
        out, self.outbox = b"".join(self.outbox), []
        if self.unsent:
            self._loop.after(0.00005, self, self._send_unsent)
        return out

    def _send_unsent(self) -> None:
        if self.unsent and not self.outbox and self.on_output is not None:
            self.outbox.append(self.unsent.popleft())
            self._used += 1
            self.write(RING0 + self._used % 4, self.rng.getrandbits(60))
            self._loop.after(max(0.0001, self.read_late_s), self, self.on_output)

    def disconnect(self) -> None:
        """The daemon has died: frames on their way to it or from it are gone, and so are writes that it held."""
        if self.drive is not None and self.drive.held is not None:
            self.drive.detach()
        self.on_output = None
        self.inbox.clear()
        self.unsent.clear()
        self.outbox = []

    def serve(self, frame: bytes) -> list[bytes]:
        self.frames += 1
        self.write(COUNTER, self.frames)
        # Once a write is lost, the VM reads what it did not write: its state must go nowhere, see Host._save.
        if self.drive is not None and not self.drive.lost and (wrong := self.foreign_blocks()):
            raise InvariantViolation(f"the VM finds blocks {wrong} of its disk as it did not leave them")
        if self.rng.random() < 0.5:
            self.write(NOISE0 + self.rng.randrange(PAGES - NOISE0), self.rng.getrandbits(60))
        if len(frame) != REQUEST.size:
            return []
        connection, operation, kind, key, value, expected = REQUEST.unpack(frame)
        page = CONNECTION0 + connection
        last, fresh = speech.operation_of(self.ram[page]), False
        if operation < last:
            return []
        if operation > last and not self.ram[page] & speech.CLOSED:
            fresh, now, hit = True, self.ram[KEY0 + key], True
            if kind == CAS:
                hit = now == expected
            if kind != READ and hit:
                self.write(KEY0 + key, value)
                if self.drive is not None:
                    block = value % 2 if value % 8 else value // 8 % BLOCKS  # most blocks are written now and then only
                    self.write(DISK0 + block, self.frames)
                    self.drive.write(block, self.frames)
            words = operation << 32 | hit << 31 | (now if kind == READ else value)
            self.write(page, words | self._own_choice(last, self.ram[page]))
        if self.speech is not None:
            return self.speech.frames(connection, self.ram[page], fresh, begins=not last) + self._acks_again(self.speech)
        return [speech.bare(connection, self.ram[page])]

    def _acks_again(self, spoken: speech.Speech) -> list[bytes]:
        """Now and then a connection opens its window: it acknowledges once more what it has acknowledged before."""
        connection = spoken.own.randrange(2 * CONNECTIONS)
        page = self.ram[CONNECTION0 + connection] if connection < CONNECTIONS else 0
        return [spoken.acks_again(connection, page)] if speech.operation_of(page) and not page & speech.CLOSED else []

    def _own_choice(self, last: int, page: int) -> int:
        """Bits of a connection's page that no other VM need have alike."""
        if self.speech is None:
            return 0
        first = self.speech.first() if not last else speech.first_of(page) << speech.FIRST_SHIFT
        return first | self.speech.stamp() | self.speech.closes()

    # ---- its state, as QEMU saves and loads it ------------------------------------------------------
    def digest(self) -> int:
        return zlib.crc32(_RAM.pack(*self.ram[:QUIET], 0, *self.ram[QUIET + 1 :]))

    def save(self) -> bytes:
        return _DEVICE.pack(self.frames, self.digest()) + MARK * self.panicked

    def load(self, state: bytes) -> str | None:
        """Load a device state; why it does not fit this memory, or None."""
        self.frames, digest = _DEVICE.unpack_from(state)
        self.panicked, self.off = state[_DEVICE.size :] == MARK, False
        if self.frames != self.ram[COUNTER] or digest != self.digest():
            return f"device state of frame {self.frames} loaded over memory of frame {self.ram[COUNTER]}"
        return None

    def torn(self) -> bool:
        """The VM would run with memory, devices and disk of different moments."""
        disk = self.drive is not None and not self.drive.lost and bool(self.foreign_blocks())
        return self.frames != self.ram[COUNTER] or disk

    def foreign_blocks(self) -> list[int]:
        return [block for block in range(BLOCKS) if self.drive.read(block) != self.ram[DISK0 + block]]


class SimMemory:
    """The core's Memory port over the mapped QEMU's pages."""

    pages = PAGES
    compress, decompress = staticmethod(zstd.compress), staticmethod(zstd.decompress)

    def __init__(self) -> None:
        self.qemu: Qemu | None = None

    @property
    def ram(self) -> list[int]:
        if self.qemu is None:
            raise InvariantViolation("guest memory is used, but no QEMU is mapped")
        return self.qemu.ram

    def fetch_dirty(self, vm_runs: bool = False) -> bytearray:
        if self.qemu is None:
            raise InvariantViolation("dirty pages are asked for, but tracking is not open")
        if self.qemu.forgets and vm_runs:
            self.qemu.dirty = {page for page in self.qemu.dirty if self.qemu.rng.random() < 0.5}
        out = 0
        for page in self.qemu.dirty:
            out |= 1 << page
        self.qemu.dirty = set()
        return bytearray(out.to_bytes(PAGES // 8, "little"))

    def put_back(self, bitmap: bytes) -> None:
        if self.qemu is not None:
            self.qemu.dirty.update(self.pages_of(bitmap))

    def union(self, a: bytearray, b: bytes) -> array:
        a[:] = (int.from_bytes(a, "little") | int.from_bytes(b, "little")).to_bytes(PAGES // 8, "little")
        return self.pages_of(a)

    def pages_of(self, bitmap: bytes) -> array:
        bits = int.from_bytes(bitmap, "little")
        return array("I", (p for p in range(PAGES) if bits >> p & 1))

    def bits_of(self, bitmap: bytes, bits: int) -> array:
        return array("I", (n for n in range(bits) if bitmap[n // 8] >> n % 8 & 1))

    def bitmap_of(self, index: array, bits: int) -> bytearray:
        return bytearray(sum(1 << n for n in index).to_bytes(pg.bitmap_bytes(bits), "little"))

    def nonzero(self, index: array) -> array:
        ram = self.ram
        return array("I", (p for p in index if ram[p]))

    def hash(self, index: array) -> array:
        ram = self.ram
        return array("Q", [ram[p] for p in index])

    def compare(self, a: array, b: array, index: array | None = None) -> array:
        return array("I", (p for x, y, p in zip(a, b, range(len(a)) if index is None else index) if x != y))

    def gather(self, index: array) -> bytes:
        ram = self.ram
        return struct.pack(f"!{len(index)}Q", *[ram[p] for p in index])

    lend = gather

    def hashes_of(self, pages: bytes) -> array:
        return array("Q", struct.unpack(f"!{len(pages) // 8}Q", pages))

    def hash_blocks(self, index: array) -> array:
        """A block is a byte. Two that differ in the last bit only have the same hash, so collisions are frequent."""
        return array("H", (byte >> 1 for byte in self.gather(index)))

    def block_masks(self, index: array, theirs: array) -> array:
        differ = [mine != other for mine, other in zip(self.hash_blocks(index), theirs)]
        return array("Q", (sum(differ[n * BYTES + k] << k for k in range(BYTES)) for n in range(len(index))))

    def count_blocks(self, masks: array) -> int:
        return sum(map(int.bit_count, masks))

    def gather_blocks(self, index: array, masks: array) -> bytes:
        pages = self.gather(index)
        return bytes(pages[n * BYTES + k] for n, mask in enumerate(masks) for k in range(BYTES) if mask >> k & 1)

    def patched(self, index: array, masks: array, blocks: bytes) -> tuple[bytes, array]:
        pages, blocks = bytearray(self.gather(index)), iter(blocks)
        for n, mask in enumerate(masks):
            for k in range(BYTES):
                if mask >> k & 1:
                    pages[n * BYTES + k] = next(blocks)
        return bytes(pages), array("Q", struct.unpack(f"!{len(index)}Q", pages))

    def apply(self, index: array, data: bytes) -> None:
        ram = self.ram
        for page, value in zip(index, struct.unpack(f"!{len(index)}Q", data)):
            ram[page] = value

    def digest(self, data: bytes) -> int:
        return zlib.crc32(data)
