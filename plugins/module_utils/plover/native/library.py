# SPDX-License-Identifier: GPL-3.0-or-later
"""The adapter to the native library (native/include/plover_native.h). Calls release the GIL.

Sizes are checked here before the library sees a pointer, and again in the library.
"""

from __future__ import annotations

import ctypes as c
import itertools
import os
import platform
import sys
from array import array
from pathlib import Path
from typing import TYPE_CHECKING

from .buffers import BLOCK_BYTES, PAGE_BYTES, NativeError, address_of, array_address, bytes_of, checked
from .guest_ram import GuestRam
from .tracker import Tracker, fetch_uffd, mapping_address

if TYPE_CHECKING:
    from .buffers import Buffer

ABI = 8
_PAGE_BLOCKS = PAGE_BYTES // BLOCK_BYTES
DEFAULT_DIR = "/opt/plover/current/native"


class Pool:
    def __init__(self, lib: c.CDLL, threads: int) -> None:
        self._lib, self.handle = lib, lib.plover_pool_new(threads)
        if not self.handle:
            raise NativeError(f"syncvm_hash_threads: cannot start {threads or 'one thread per core'}; choose fewer")
        self.threads: int = lib.plover_pool_threads(self.handle)

    def __del__(self) -> None:
        if getattr(self, "handle", None):
            self._lib.plover_pool_free(self.handle)
            self.handle = None


class Native:
    def __init__(self, folder: str | Path) -> None:
        path = Path(folder) / "libplover_native.so"
        if sys.byteorder != "little" or platform.machine() != "x86_64":
            raise NativeError(f"{platform.machine()}: Plover runs on x86-64 hosts")
        try:
            self.lib = lib = c.CDLL(str(path))
        except OSError as error:
            raise NativeError(f"{path}: {error}; role 'native' installs it (PLOVER_NATIVE_DIR overrides)") from error
        if lib.plover_abi_version() != ABI:  # checked first: another version may lack some functions below
            raise NativeError(f"{path}: ABI {lib.plover_abi_version()}, this runtime needs {ABI}; deploy both together")
        void, size, big = c.c_void_p, c.c_size_t, c.c_int64
        for name, result, arguments in (
            ("cityhash64", c.c_uint64, [void, size]),
            ("keep_freed_memory", c.c_int, [size, size]),
            ("pool_new", void, [c.c_uint]),
            ("pool_threads", c.c_uint, [void]),
            ("pool_free", None, [void]),
            ("bitmap_union", big, [void, void, size]),
            ("bitmap_pages", big, [void, size, void, size]),
            ("bitmap_of", c.c_int, [void, size, void, size]),
            ("hash_pages", c.c_int, [void, void, size, void, size, void, c.c_char_p]),
            ("hash_kernel", c.c_char_p, [c.c_uint]),
            ("compare", big, [void, void, void, size, void]),
            ("nonzero", big, [void, size, void, size, void]),
            ("gather", c.c_int, [void, size, void, size, void]),
            ("apply", c.c_int, [void, size, void, size, void]),
            ("block_hashes", c.c_int, [void, void, size, void, size, void]),
            ("block_masks", c.c_int, [void, void, size, void, size, void, void]),
            ("count_blocks", big, [void, size]),
            ("gather_blocks", c.c_int, [void, size, void, size, void, void, size]),
            ("patch_pages", c.c_int, [void, size, void, size, void, void, size, void]),
            ("wait_idle", c.c_int, [c.c_int, c.c_int, void, c.c_uint, big, c.c_double, big]),
            ("tracker_open", c.c_int, [c.c_char_p, c.c_int, c.c_uint64, void, size, c.c_int, void, c.POINTER(void), c.c_char_p, size]),
            ("tracker_fetch", big, [void, void, size]),
            ("tracker_fetch_stopped", big, [void, void, size]),
            ("tracker_synced", c.c_int, [void, void, size, void]),
            ("tracker_close", None, [void]),
            ("couple_can_tls", c.c_int, []),
            ("couple_new", c.c_int, [c.c_int, c.c_int, void, c.c_int, void, size, c.c_int, c.c_uint, c.POINTER(void)]),
            ("couple_free", None, [void]),
            ("sayings", big, [void, size, void, size]),
            ("agreement_new", void, [size, size]),
            ("agreement_free", None, [void]),
            ("agreement_begin", None, [void]),
            ("agreement_void", None, [void]),
            ("agreement_open", None, [void, c.c_int]),
            ("agreement_hold", c.c_int, [void, void, size, void, size, void]),
            ("agreement_hear", c.c_int, [void, void, size]),
            ("agreement_leaving", big, [void, c.POINTER(c.POINTER(c.c_uint64)), void]),
        ):
            function = getattr(lib, "plover_" + name)
            function.restype, function.argtypes = result, arguments

    def keep_freed_memory(self, keep_bytes: int, block_bytes_max: int) -> None:
        """For this process; see the header."""
        checked(self.lib.plover_keep_freed_memory(keep_bytes, block_bytes_max), "memory")

    def cityhash64(self, data: Buffer) -> int:
        digest: int = self.lib.plover_cityhash64(address_of(data, False), bytes_of(data))
        return digest

    def pool(self, threads: int = 0) -> Pool:
        return Pool(self.lib, threads)

    def bitmap_union(self, dst: bytearray, src: Buffer) -> int:
        """``dst`` |= ``src``; returns the pages set."""
        if len(dst) != len(src) or len(dst) % 8:
            raise NativeError(f"bitmaps of {len(dst)} and {len(src)} bytes; need equal whole words")
        return checked(self.lib.plover_bitmap_union(address_of(dst, True), address_of(src, False), len(dst) // 8), "union")

    def bitmap_pages(self, bitmap: Buffer, pages: int) -> array[int]:
        if len(bitmap) != (pages + 63) // 64 * 8:
            raise NativeError(f"bitmap of {len(bitmap)} bytes for {pages} pages")
        count = int.from_bytes(bitmap, "little").bit_count()  # not room for all: clearing that costs more than the rest
        out = array("I", bytes(4 * count))
        if count:
            checked(self.lib.plover_bitmap_pages(address_of(bitmap, False), pages, address_of(out, True), count), "bitmap")
        return out

    def bitmap_of(self, index: array[int], bits: int) -> bytearray:
        """A bitmap of ``bits`` bits in which exactly the bits in ``index`` are set."""
        out = bytearray((bits + 63) // 64 * 8)
        checked(self.lib.plover_bitmap_of(array_address(index, "I"), len(index), address_of(out, True), bits), "bitmap")
        return out

    def hash_kernels(self) -> list[str]:
        """The kernels that this CPU can run, best first."""
        names = iter(self.lib.plover_hash_kernel(number) for number in itertools.count())
        return [name.decode() for name in itertools.takewhile(bool, names)]

    def hash_pages(self, pool: Pool, ram: GuestRam, index: array[int], kernel: str | None = None) -> array[int]:
        """The pages' hashes, in the order of ``index``. ``kernel``: use this one instead of the best."""
        out = array("Q", (0,)) * len(index)
        name = None if kernel is None else kernel.encode()
        checked(
            self.lib.plover_hash_pages(
                pool.handle, ram.address, ram.pages, array_address(index, "I"), len(index), address_of(out, True), name
            ),
            "hashing pages" if kernel is None else f"hashing pages with kernel {kernel!r}",
        )
        return out

    def hash_data(self, pool: Pool, data: Buffer) -> array[int]:
        """The hashes of the consecutive pages in ``data``."""
        pages, rest = divmod(bytes_of(data), PAGE_BYTES)
        if rest:
            raise NativeError(f"{bytes_of(data)} bytes are no whole pages")
        out = array("Q", (0,)) * pages
        index = array("I", range(pages))
        checked(
            self.lib.plover_hash_pages(
                pool.handle, address_of(data, False), pages, array_address(index, "I"), pages, address_of(out, True), None
            ),
            "hashing pages",
        )
        return out

    def compare(self, a: array[int], b: array[int], index: array[int] | None = None) -> array[int]:
        """The pages of ``index`` whose hashes in ``a`` and ``b`` differ; without an index, the places that differ."""
        pages = len(a) if index is None else len(index)
        if not len(a) == len(b) == pages:
            raise NativeError(f"{len(a)} and {len(b)} hashes for {pages} pages")
        out = array("I", bytes(4 * pages))
        n = checked(
            self.lib.plover_compare(
                array_address(a, "Q"),
                array_address(b, "Q"),
                None if index is None else array_address(index, "I"),
                pages,
                address_of(out, True),
            ),
            "comparing hashes",
        )
        return out[:n]

    def nonzero(self, ram: GuestRam, index: array[int]) -> array[int]:
        """The pages of ``index`` that are not all zeros."""
        out = array("I", bytes(4 * len(index)))
        n = checked(
            self.lib.plover_nonzero(ram.address, ram.pages, array_address(index, "I"), len(index), address_of(out, True)),
            "looking for zero pages",
        )
        return out[:n]

    def gather(self, ram: GuestRam, index: array[int]) -> bytearray:
        out = bytearray(PAGE_BYTES * len(index))
        checked(
            self.lib.plover_gather(ram.address, ram.pages, array_address(index, "I"), len(index), address_of(out, True)), "gathering pages"
        )
        return out

    def apply(self, ram: GuestRam, index: array[int], data: Buffer) -> None:
        if bytes_of(data) != PAGE_BYTES * len(index):
            raise NativeError(f"{bytes_of(data)} bytes for {len(index)} pages")
        checked(
            self.lib.plover_apply(ram.address, ram.pages, array_address(index, "I"), len(index), address_of(data, False)), "applying pages"
        )

    def block_hashes(self, pool: Pool, ram: GuestRam, index: array[int]) -> array[int]:
        """16-bit hashes of the blocks of these pages, in order."""
        out = array("H", (0,)) * (_PAGE_BLOCKS * len(index))
        checked(
            self.lib.plover_block_hashes(pool.handle, ram.address, ram.pages, array_address(index, "I"), len(index), address_of(out, True)),
            "hashing blocks",
        )
        return out

    def block_masks(self, pool: Pool, ram: GuestRam, index: array[int], theirs: array[int]) -> array[int]:
        """One mask per page: the blocks whose hashes differ from ``theirs``."""
        if len(theirs) != _PAGE_BLOCKS * len(index):
            raise NativeError(f"{len(theirs)} hashes of blocks for {len(index)} pages")
        out = array("Q", (0,)) * len(index)
        checked(
            self.lib.plover_block_masks(
                pool.handle,
                ram.address,
                ram.pages,
                array_address(index, "I"),
                len(index),
                array_address(theirs, "H"),
                address_of(out, True),
            ),
            "comparing blocks",
        )
        return out

    def count_blocks(self, masks: array[int]) -> int:
        """Number of blocks in these masks."""
        return checked(self.lib.plover_count_blocks(array_address(masks, "Q"), len(masks)), "counting blocks")

    def gather_blocks(self, ram: GuestRam, index: array[int], masks: array[int]) -> bytearray:
        """Copies of the blocks in the masks, one mask per page."""
        if len(masks) != len(index):
            raise NativeError(f"{len(masks)} masks for {len(index)} pages")
        blocks = self.count_blocks(masks)
        out = bytearray(BLOCK_BYTES * blocks)
        checked(
            self.lib.plover_gather_blocks(
                ram.address, ram.pages, array_address(index, "I"), len(index), array_address(masks, "Q"), address_of(out, True), blocks
            ),
            "gathering blocks",
        )
        return out

    def patch_pages(self, ram: GuestRam, index: array[int], masks: array[int], data: Buffer) -> bytearray:
        """Copies of the pages, with the blocks in ``masks`` replaced by those in ``data``."""
        blocks, rest = divmod(bytes_of(data), BLOCK_BYTES)
        if len(masks) != len(index) or rest:
            raise NativeError(f"{len(masks)} masks and {bytes_of(data)} bytes of blocks for {len(index)} pages")
        out = bytearray(PAGE_BYTES * len(index))
        checked(
            self.lib.plover_patch_pages(
                ram.address,
                ram.pages,
                array_address(index, "I"),
                len(index),
                array_address(masks, "Q"),
                address_of(data, False),
                blocks,
                address_of(out, True),
            ),
            "patching pages",
        )
        return out

    def wait_idle(self, pid: int, socket: int, disturbed: array[int], looks: int, every_ns: int, share_max: float, limit_ns: int) -> bool:
        """Blocks the calling thread; see the header. ``disturbed``: one number (array "I")."""
        return bool(
            checked(
                self.lib.plover_wait_idle(pid, socket, array_address(disturbed, "I"), looks, every_ns, share_max, limit_ns),
                "waiting for an idle VM",
            )
        )

    def tracker(self, backend: str, pid: int, ram_path: str, ram: GuestRam, pool: Pool, uffd_file: str) -> Tracker:
        """Start tracking process ``pid``'s mapping of ``ram_path``, with all pages clean."""
        mapped_at = mapping_address(pid, ram_path, ram.pages)
        uffd = fetch_uffd(pid, uffd_file) if backend == "uffd-wp" else -1
        handle, error = c.c_void_p(), c.create_string_buffer(300)
        rc = self.lib.plover_tracker_open(
            backend.encode(), pid, mapped_at, ram.address, ram.pages, uffd, pool.handle, c.byref(handle), error, len(error)
        )
        if rc:
            if uffd >= 0:
                os.close(uffd)
            raise NativeError(error.value.decode() or f"dirty tracking: {os.strerror(-rc)}")
        return Tracker(self.lib, handle, backend, ram.pages, (ram, pool))


def load() -> Native:
    """The library of this installation."""
    return Native(os.environ.get("PLOVER_NATIVE_DIR", DEFAULT_DIR))
