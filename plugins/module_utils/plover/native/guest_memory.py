# SPDX-License-Identifier: GPL-3.0-or-later
"""Guest memory of this host: the core's Memory port on top of the native library."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from array import array
from collections.abc import AsyncIterator
from pathlib import Path

from ..errors import InvariantViolation
from ..ports.effects import Buffer
from ..protocol.pages import PageRun
from . import huge_pages, zstd
from .buffers import NativeError
from .comparison import NativeComparison
from .guest_ram import GuestRam
from .library import load
from .tracker import Tracker

KEEP_BYTES = 64 << 20  # memory of a syncvm's buffers that is kept for the next syncvm
MMAP_THRESHOLD_BYTES = 32 << 20  # the most that glibc accepts here


class GuestMemory:
    compress, decompress = staticmethod(zstd.compress), staticmethod(zstd.decompress)

    def __init__(self, pages: int, threads: int) -> None:
        self.pages = pages
        self._native = load()
        self._native.keep_freed_memory(KEEP_BYTES, MMAP_THRESHOLD_BYTES)
        self.pool = self._native.pool(threads)
        self._ram: GuestRam | None = None
        self._tracker: Tracker | None = None
        self._put_back: bytes | bytearray | None = None
        self.lent = False  # the network card may read guest memory; set by rdma/rings.py
        self._growing = False  # the VM ran during the last fetch; see plover_tracker_fetch
        self._fetched = False  # the dirty pages have just been fetched into _put_back
        self._hashing = threading.Lock()  # memory must stay mapped during a hash or a scan in a thread

    def comparison(self) -> NativeComparison:
        return NativeComparison(self._native)

    def map(self, path: Path) -> None:
        self.unmap()
        self._ram = GuestRam(str(path), self.pages)

    async def prepare(self, backend: str) -> None:
        """Lock memory in advance if ``backend`` needs that: the kernel clears each page first, which takes time, and clients
        wait while a tracker is opened. If it cannot be locked, :meth:`track` says so."""
        if backend == "soft-dirty":
            await asyncio.to_thread(self._lock)

    def _lock(self) -> None:
        with self._hashing, contextlib.suppress(InvariantViolation):  # QEMU has ended
            self.ram.lock()

    async def track(self, backend: str, pid: int, uffd_file: Path) -> None:
        """Start tracking with all pages clean. An open tracker of the same QEMU goes on.

        Runs in a thread, for the same reason as :meth:`fetched`: a tracker that compares contents first reads all of memory.
        """
        if self._tracker is None:
            await asyncio.to_thread(self._open_tracker, backend, pid, str(uffd_file))

    def _open_tracker(self, backend: str, pid: int, uffd_file: str) -> None:
        if backend == "soft-dirty" and (why := huge_pages.why_possible(Path(self.ram.path))):
            raise NativeError(f"soft-dirty: writes to huge pages are not all tracked, and {why}")
        with self._hashing:
            self._tracker = self._native.tracker(backend, pid, self.ram.path, self.ram, self.pool, uffd_file)

    def unmap(self) -> None:
        with self._hashing:
            if self._tracker:
                self._tracker.close()
            if self._ram:
                self._ram.close()
            self._tracker = self._ram = self._put_back = None
            self.lent = self._growing = False

    @property
    def ram(self) -> GuestRam:
        if self._ram is None:
            raise InvariantViolation("guest memory is used, but no QEMU is mapped")
        return self._ram

    def fetch_dirty(self, vm_runs: bool = False) -> bytearray:
        bitmap = bytearray(self._bitmap_bytes) if self._fetched and self._tracker else self._fetch(vm_runs)
        if self._put_back is not None:
            self._native.bitmap_union(bitmap, self._put_back)
            self._put_back = None
        return bitmap

    def _fetch(self, vm_runs: bool) -> bytearray:
        bitmap = bytearray(self._bitmap_bytes)
        with self._hashing:
            if self._tracker is None:
                raise InvariantViolation("dirty pages are asked for, but tracking is not open")
            self._tracker.fetch(bitmap, stopped=not vm_runs)
            self._growing = vm_runs
        return bitmap

    @contextlib.asynccontextmanager
    async def fetched(self, wanted: bool = True, vm_runs: bool = False) -> AsyncIterator[None]:
        """Inside this context, fetch_dirty() takes no time (if ``wanted``), and nothing may be awaited. Pages that a running VM
        writes meanwhile count for the next fetch.

        A tracker that compares contents reads all of memory. This does so in a thread, in advance: an event loop that waited
        for it would send no heartbeats, and the other members would take this host for dead. If fetch_dirty() is not called
        inside, the next fetch returns these pages, too.
        """
        if wanted and self._compares:
            with contextlib.suppress(InvariantViolation):  # QEMU has ended; fetch_dirty() will raise it again
                self.put_back(await asyncio.to_thread(self._fetch, vm_runs))
                self._fetched = True
        try:
            yield
        finally:
            self._fetched = False

    @property
    def _bitmap_bytes(self) -> int:
        return (self.pages + 63) // 64 * 8

    def put_back(self, bitmap: Buffer) -> None:
        union = bytearray(bitmap)
        if self._put_back is not None:
            self._native.bitmap_union(union, self._put_back)
        self._put_back = bytes(union)

    def union(self, a: bytearray, b: Buffer) -> array[int]:
        self._native.bitmap_union(a, b)
        return self.pages_of(a)

    def pages_of(self, bitmap: Buffer) -> array[int]:
        return self._native.bitmap_pages(bitmap, self.pages)

    def bits_of(self, bitmap: Buffer, bits: int) -> array[int]:
        return self._native.bitmap_pages(bitmap, bits)

    def bitmap_of(self, index: array[int], bits: int) -> bytearray:
        return self._native.bitmap_of(index, bits)

    def nonzero(self, index: array[int]) -> array[int]:
        """The pages of ``index`` that are not all zeros. The others need not be sent to a host whose memory is fresh."""
        out = self._native.nonzero(self.ram, index)
        if self._compares and len(out) < len(index):
            zero = array("I", sorted(set(index) - set(out)))
            self._synced(zero, None)
        return out

    def hash(self, index: array[int]) -> array[int]:
        with self._hashing:
            return self._native.hash_pages(self.pool, self.ram, index)

    def hash_blocks(self, index: array[int]) -> array[int]:
        with self._hashing:
            return self._native.block_hashes(self.pool, self.ram, index)

    def block_masks(self, index: array[int], theirs: array[int]) -> array[int]:
        return self._native.block_masks(self.pool, self.ram, index, theirs)

    def count_blocks(self, masks: array[int]) -> int:
        return self._native.count_blocks(masks)

    def gather_blocks(self, index: array[int], masks: array[int]) -> bytearray:
        return self._native.gather_blocks(self.ram, index, masks)

    def patched(self, index: array[int], masks: array[int], blocks: Buffer) -> tuple[bytearray, array[int]]:
        pages = self._native.patch_pages(self.ram, index, masks, blocks)
        return pages, self._native.hash_data(self.pool, pages)

    def compare(self, a: array[int], b: array[int], index: array[int] | None = None) -> array[int]:
        return self._native.compare(a, b, index)

    def gather(self, index: array[int]) -> bytearray:
        data = self._native.gather(self.ram, index)
        self._synced(index, data)
        return data

    def lend(self, index: array[int]) -> bytearray | PageRun:
        if not self.lent or self._compares:  # a tracker that compares contents must know the sent content
            return self.gather(index)
        return PageRun(index, self.gather)

    def hashes_of(self, pages: Buffer) -> array[int]:
        return self._native.hash_data(self.pool, pages)

    def apply(self, index: array[int], data: Buffer) -> None:
        self._native.apply(self.ram, index, data)
        self._synced(index, data)

    def _synced(self, index: array[int], data: Buffer | None) -> None:
        """Tell a tracker that compares contents the content that both hosts hold now."""
        if self._compares and self._tracker is not None:
            with self._hashing:
                self._tracker.synced(index, data)

    @property
    def _compares(self) -> bool:
        """The tracker now compares contents: it must know the sent content, and a fetch takes long."""
        backend = self._tracker.backend if self._tracker is not None else ""
        return backend == "scan" or (backend == "soft-dirty" and self._growing)

    def digest(self, data: Buffer) -> int:
        return self._native.cityhash64(data)
