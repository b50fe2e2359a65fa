# SPDX-License-Identifier: GPL-3.0-or-later
"""The adapter to the native library (native/include/plover_native.h): the only file that knows ctypes.

Sizes are checked here before the library sees a pointer, and again there. Calls release the GIL.
"""
from __future__ import annotations

import ctypes as c
import itertools
import mmap
import os
import platform
import sys
from array import array
from pathlib import Path

from ..errors import PloverError

ABI = 6
PAGE_BYTES = 4096
BLOCK_BYTES = 64
_PAGE_BLOCKS = PAGE_BYTES // BLOCK_BYTES
DEFAULT_DIR = "/opt/plover/current/native"
_SYS_PIDFD_GETFD = 438


class NativeError(PloverError):
    """The native library is missing, of another version, or refused its input."""


def _address(buffer, writable: bool) -> int:
    """Address of a buffer's first byte; the caller keeps the buffer alive."""
    if isinstance(buffer, bytes):
        return c.cast(c.c_char_p(buffer), c.c_void_p).value or 0
    if isinstance(buffer, array):
        return buffer.buffer_info()[0]
    view = memoryview(buffer)
    if not view.nbytes:
        return 0
    if view.readonly:  # pylint: disable=using-constant-test  # it takes the attribute for a constant
        if writable:
            raise NativeError("a read-only buffer cannot be written")
        return _readonly_address(view)
    return c.addressof(c.c_char.from_buffer(view))


class _PyBuffer(c.Structure):
    _fields_ = [("buf", c.c_void_p), ("obj", c.py_object), ("len", c.c_ssize_t), ("itemsize", c.c_ssize_t),
                ("readonly", c.c_int), ("ndim", c.c_int), ("format", c.c_char_p), ("shape", c.c_void_p),
                ("strides", c.c_void_p), ("suboffsets", c.c_void_p), ("internal", c.c_void_p)]


def _readonly_address(view: memoryview) -> int:
    """Address of a read-only view, without a copy (ctypes itself only takes writable ones)."""
    raw = _PyBuffer()
    c.pythonapi.PyObject_GetBuffer(c.py_object(view), c.byref(raw), 0)
    address = raw.buf
    c.pythonapi.PyBuffer_Release(c.byref(raw))
    return address


def _numbers(numbers, kind: str) -> int:
    """Address of an array of ``kind``: "I" page numbers, "Q" hashes, "H" those of blocks.

    Of another width it would be read beyond its end.
    """
    if not isinstance(numbers, array) or numbers.typecode != kind:
        raise NativeError(f"{numbers!r:.60} is no array of type {kind!r}")
    return numbers.buffer_info()[0]


def _bytes_of(buffer) -> int:
    return memoryview(buffer).nbytes


class GuestRam:
    """Guest memory: the file that QEMU shares, mapped here too. ``pages`` of 4096 bytes."""

    def __init__(self, path: str, pages: int) -> None:
        size = pages * PAGE_BYTES
        try:
            with open(path, "r+b") as file:
                found = os.fstat(file.fileno()).st_size
                if found != size:
                    raise NativeError(f"{path}: guest RAM of {found} bytes, the settings say {size}; "
                                      "make guest_memory_mib equal on both replicas and restart the VM")
                self.map = mmap.mmap(file.fileno(), size)
        except OSError as error:
            raise NativeError(f"{path}: {error.strerror}; is QEMU running?") from error
        self.pages = pages
        self.path = path

    @property
    def address(self) -> int:
        return _address(self.map, True)

    def lock(self) -> bool:
        """Keep it in memory, as long as it is mapped here or a tracker that wants that is open."""
        return c.CDLL(None).mlock(c.c_void_p(self.address), c.c_size_t(self.pages * PAGE_BYTES)) == 0

    def close(self) -> None:
        try:
            self.map.close()
        except BufferError:  # a hash in another thread still reads it; it goes with the last reference
            return


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


class Tracker:
    def __init__(self, lib: c.CDLL, handle: int, backend: str, pages: int, keep: tuple) -> None:
        self._lib, self._handle, self.backend, self._pages, self._keep = lib, handle, backend, pages, keep

    def fetch(self, bitmap: bytearray, stopped: bool = False) -> int:
        """OR the pages written since the last call into ``bitmap``; returns how many. ``stopped``: nobody writes now."""
        words = (self._pages + 63) // 64
        if len(bitmap) != 8 * words:
            raise NativeError(f"dirty bitmap of {len(bitmap)} bytes, need {8 * words}")
        fetch = self._lib.plover_tracker_fetch_stopped if stopped else self._lib.plover_tracker_fetch
        return _checked(fetch(self._handle, _address(bitmap, True), words), "dirty tracking")

    def synced(self, index: array, data) -> None:
        """Both hosts now hold ``data`` (4096 bytes a page; None: zeros) in the pages of ``index`` (array "I"): their clean
        content."""
        if data is not None and _bytes_of(data) != PAGE_BYTES * len(index):
            raise NativeError(f"{_bytes_of(data)} bytes for {len(index)} pages")
        _checked(self._lib.plover_tracker_synced(self._handle, _numbers(index, "I"), len(index),
                                                 None if data is None else _address(data, False)), "dirty tracking")

    def close(self) -> None:
        if self._handle:
            self._lib.plover_tracker_close(self._handle)
            self._handle = None


def _checked(result: int, what: str) -> int:
    if result < 0:
        raise NativeError(f"{what}: {os.strerror(-result)}")
    return result


class Native:
    def __init__(self, folder: str | Path) -> None:
        path = Path(folder) / "libplover_native.so"
        if sys.byteorder != "little" or platform.machine() != "x86_64":
            raise NativeError(f"{platform.machine()}: Plover runs on x86-64 hosts")
        try:
            self._lib = lib = c.CDLL(str(path))
        except OSError as error:
            raise NativeError(f"{path}: {error}; role 'native' installs it (PLOVER_NATIVE_DIR overrides)") from error
        if lib.plover_abi_version() != ABI:  # before the functions are looked up, that another version may not have
            raise NativeError(f"{path}: ABI {lib.plover_abi_version()}, this runtime needs {ABI}; deploy both together")
        void, size, big = c.c_void_p, c.c_size_t, c.c_int64
        for name, result, arguments in (
                ("cityhash64", c.c_uint64, [void, size]),
                ("keep_freed_memory", c.c_int, [size, size]),
                ("pool_new", void, [c.c_uint]), ("pool_threads", c.c_uint, [void]), ("pool_free", None, [void]),
                ("bitmap_union", big, [void, void, size]), ("bitmap_pages", big, [void, size, void, size]),
                ("bitmap_of", c.c_int, [void, size, void, size]),
                ("hash_pages", c.c_int, [void, void, size, void, size, void, c.c_char_p]),
                ("hash_kernel", c.c_char_p, [c.c_uint]),
                ("compare", big, [void, void, void, size, void]), ("nonzero", big, [void, size, void, size, void]),
                ("gather", c.c_int, [void, size, void, size, void]), ("apply", c.c_int, [void, size, void, size, void]),
                ("block_hashes", c.c_int, [void, void, size, void, size, void]),
                ("block_masks", c.c_int, [void, void, size, void, size, void, void]),
                ("count_blocks", big, [void, size]),
                ("gather_blocks", c.c_int, [void, size, void, size, void, void, size]),
                ("patch_pages", c.c_int, [void, size, void, size, void, void, size, void]),
                ("wait_idle", c.c_int, [c.c_int, c.c_int, void, c.c_uint, big, c.c_double, big]),
                ("tracker_open", c.c_int, [c.c_char_p, c.c_int, c.c_uint64, void, size, c.c_int, void,
                                           c.POINTER(void), c.c_char_p, size]),
                ("tracker_fetch", big, [void, void, size]), ("tracker_fetch_stopped", big, [void, void, size]),
                ("tracker_synced", c.c_int, [void, void, size, void]),
                ("tracker_close", None, [void])):
            function = getattr(lib, "plover_" + name)
            function.restype, function.argtypes = result, arguments

    def keep_freed_memory(self, keep_bytes: int, block_bytes_max: int) -> None:
        """Of this process: see the header."""
        _checked(self._lib.plover_keep_freed_memory(keep_bytes, block_bytes_max), "memory")

    def cityhash64(self, data) -> int:
        return self._lib.plover_cityhash64(_address(data, False), _bytes_of(data))

    def pool(self, threads: int = 0) -> Pool:
        return Pool(self._lib, threads)

    def bitmap_union(self, dst: bytearray, src: bytes) -> int:
        """``dst`` |= ``src``; returns the pages set."""
        if len(dst) != len(src) or len(dst) % 8:
            raise NativeError(f"bitmaps of {len(dst)} and {len(src)} bytes; need equal whole words")
        return _checked(self._lib.plover_bitmap_union(_address(dst, True), _address(src, False), len(dst) // 8), "union")

    def bitmap_pages(self, bitmap, pages: int) -> array:
        if len(bitmap) != (pages + 63) // 64 * 8:
            raise NativeError(f"bitmap of {len(bitmap)} bytes for {pages} pages")
        count = int.from_bytes(bitmap, "little").bit_count()  # not room for all: clearing that costs more than the rest
        out = array("I", bytes(4 * count))
        if count:
            _checked(self._lib.plover_bitmap_pages(_address(bitmap, False), pages, _address(out, True), count), "bitmap")
        return out

    def bitmap_of(self, index: array, bits: int) -> bytearray:
        """The bitmap of ``bits`` bits in which these are set."""
        out = bytearray((bits + 63) // 64 * 8)
        _checked(self._lib.plover_bitmap_of(_numbers(index, "I"), len(index), _address(out, True), bits), "bitmap")
        return out

    def hash_kernels(self) -> list[str]:
        """The kernels that this CPU can run, best first."""
        names = iter(self._lib.plover_hash_kernel(number) for number in itertools.count())
        return [name.decode() for name in itertools.takewhile(bool, names)]

    def hash_pages(self, pool: Pool, ram: GuestRam, index: array, kernel: str | None = None) -> array:
        """The pages' hashes, in the order of ``index``. ``kernel``: not the best one, but this."""
        out = array("Q", (0,)) * len(index)
        name = None if kernel is None else kernel.encode()
        _checked(self._lib.plover_hash_pages(pool.handle, ram.address, ram.pages, _numbers(index, "I"), len(index),
                                             _address(out, True), name),
                 "hashing pages" if kernel is None else f"hashing pages with kernel {kernel!r}")
        return out

    def hash_data(self, pool: Pool, data) -> array:
        """The hashes of the pages that ``data`` holds one after the other."""
        pages, rest = divmod(_bytes_of(data), PAGE_BYTES)
        if rest:
            raise NativeError(f"{_bytes_of(data)} bytes are no whole pages")
        out = array("Q", (0,)) * pages
        index = array("I", range(pages))
        _checked(self._lib.plover_hash_pages(pool.handle, _address(data, False), pages, _numbers(index, "I"), pages,
                                             _address(out, True), None), "hashing pages")
        return out

    def compare(self, a: array, b: array, index: array | None = None) -> array:
        """Those pages of ``index`` whose hashes differ; without one: where in ``a`` and ``b`` they do."""
        pages = len(a) if index is None else len(index)
        if not len(a) == len(b) == pages:
            raise NativeError(f"{len(a)} and {len(b)} hashes for {pages} pages")
        out = array("I", bytes(4 * pages))
        n = _checked(self._lib.plover_compare(_numbers(a, "Q"), _numbers(b, "Q"),
                                              None if index is None else _numbers(index, "I"), pages, _address(out, True)),
                     "comparing hashes")
        return out[:n]

    def nonzero(self, ram: GuestRam, index: array) -> array:
        """Those pages of ``index`` that are not all zero."""
        out = array("I", bytes(4 * len(index)))
        n = _checked(self._lib.plover_nonzero(ram.address, ram.pages, _numbers(index, "I"), len(index),
                                              _address(out, True)), "looking for zero pages")
        return out[:n]

    def gather(self, ram: GuestRam, index: array) -> bytearray:
        out = bytearray(PAGE_BYTES * len(index))
        _checked(self._lib.plover_gather(ram.address, ram.pages, _numbers(index, "I"), len(index), _address(out, True)),
                 "gathering pages")
        return out

    def apply(self, ram: GuestRam, index: array, data) -> None:
        if _bytes_of(data) != PAGE_BYTES * len(index):
            raise NativeError(f"{_bytes_of(data)} bytes for {len(index)} pages")
        _checked(self._lib.plover_apply(ram.address, ram.pages, _numbers(index, "I"), len(index), _address(data, False)),
                 "applying pages")

    def block_hashes(self, pool: Pool, ram: GuestRam, index: array) -> array:
        """16-bit hashes of the blocks of these pages, in order."""
        out = array("H", (0,)) * (_PAGE_BLOCKS * len(index))
        _checked(self._lib.plover_block_hashes(pool.handle, ram.address, ram.pages, _numbers(index, "I"), len(index),
                                               _address(out, True)), "hashing blocks")
        return out

    def block_masks(self, pool: Pool, ram: GuestRam, index: array, theirs: array) -> array:
        """Per page a mask of the blocks whose hashes are not ``theirs``."""
        if len(theirs) != _PAGE_BLOCKS * len(index):
            raise NativeError(f"{len(theirs)} hashes of blocks for {len(index)} pages")
        out = array("Q", (0,)) * len(index)
        _checked(self._lib.plover_block_masks(pool.handle, ram.address, ram.pages, _numbers(index, "I"), len(index),
                                              _numbers(theirs, "H"), _address(out, True)), "comparing blocks")
        return out

    def count_blocks(self, masks: array) -> int:
        """How many blocks these masks name."""
        return _checked(self._lib.plover_count_blocks(_numbers(masks, "Q"), len(masks)), "counting blocks")

    def gather_blocks(self, ram: GuestRam, index: array, masks: array) -> bytearray:
        """The blocks that the masks, one for each page, name."""
        if len(masks) != len(index):
            raise NativeError(f"{len(masks)} masks for {len(index)} pages")
        blocks = self.count_blocks(masks)
        out = bytearray(BLOCK_BYTES * blocks)
        _checked(self._lib.plover_gather_blocks(ram.address, ram.pages, _numbers(index, "I"), len(index),
                                                _numbers(masks, "Q"), _address(out, True), blocks), "gathering blocks")
        return out

    def patch_pages(self, ram: GuestRam, index: array, masks: array, data) -> bytearray:
        """Copies of the pages with these blocks in them."""
        blocks, rest = divmod(_bytes_of(data), BLOCK_BYTES)
        if len(masks) != len(index) or rest:
            raise NativeError(f"{len(masks)} masks and {_bytes_of(data)} bytes of blocks for {len(index)} pages")
        out = bytearray(PAGE_BYTES * len(index))
        _checked(self._lib.plover_patch_pages(ram.address, ram.pages, _numbers(index, "I"), len(index), _numbers(masks, "Q"),
                                              _address(data, False), blocks, _address(out, True)), "patching pages")
        return out

    def wait_idle(self, pid: int, socket: int, disturbed: array, looks: int, every_ns: int, share_max: float,
                  limit_ns: int) -> bool:
        """Blocks its thread: see the header. ``disturbed``: one number (array "I")."""
        return bool(_checked(self._lib.plover_wait_idle(pid, socket, _numbers(disturbed, "I"), looks, every_ns, share_max,
                                                        limit_ns), "waiting for an idle VM"))

    def tracker(self, backend: str, pid: int, ram_path: str, ram: GuestRam, pool: Pool, uffd_file: str) -> Tracker:
        """Start tracking process ``pid``'s mapping of ``ram_path``; all pages count as clean."""
        uffd = _fetch_uffd(pid, uffd_file) if backend == "uffd-wp" else -1
        handle, error = c.c_void_p(), c.create_string_buffer(300)
        rc = self._lib.plover_tracker_open(backend.encode(), pid, _mapping_address(pid, ram_path, ram.pages), ram.address,
                                           ram.pages, uffd, pool.handle, c.byref(handle), error, len(error))
        if rc:
            if uffd >= 0:
                os.close(uffd)
            raise NativeError(error.value.decode() or f"dirty tracking: {os.strerror(-rc)}")
        return Tracker(self._lib, handle.value, backend, ram.pages, (ram, pool))


def _mapping_address(pid: int, ram_path: str, pages: int) -> int:
    """Where process ``pid`` has mapped the whole of ``ram_path``."""
    wanted = pages * PAGE_BYTES
    try:
        with open(f"/proc/{pid}/maps", encoding="utf-8") as file:
            for line in file:
                fields = line.split(maxsplit=5)
                if len(fields) == 6 and fields[5].rstrip("\n") == ram_path:
                    start, end = (int(x, 16) for x in fields[0].split("-"))
                    if end - start == wanted:
                        return start
    except OSError as error:
        raise NativeError(f"/proc/{pid}/maps: {error.strerror}") from error
    raise NativeError(f"process {pid} has no mapping of {wanted} bytes of {ram_path}; is it QEMU, with this RAM size?")


def _fetch_uffd(pid: int, uffd_file: str) -> int:
    """The userfaultfd that the preload library opened in QEMU, as a descriptor of ours."""
    try:
        told, number = Path(uffd_file).read_text(encoding="ascii").split(maxsplit=1)
        told, number = int(told), number if number.startswith("error") else int(number)
    except (OSError, ValueError) as error:
        raise NativeError(f"{uffd_file}: QEMU told no userfaultfd ({error}); is libplover_preload.so installed?") from error
    if told != pid or isinstance(number, str):
        raise NativeError(f"uffd-wp: QEMU could open no userfaultfd: {str(number).strip()}; needs /dev/userfaultfd and "
                          "Linux >= 6.7 (or set syncvm_dirty_tracking: scan)")
    libc = c.CDLL(None, use_errno=True)
    try:
        pidfd = os.pidfd_open(pid)
    except OSError as error:
        raise NativeError(f"QEMU (pid {pid}): {error.strerror}") from error
    try:
        fd = libc.syscall(_SYS_PIDFD_GETFD, pidfd, number, 0)
        if fd < 0:
            raise NativeError(f"pidfd_getfd from QEMU: {os.strerror(c.get_errno())}; the daemon needs CAP_SYS_PTRACE")
        return fd
    finally:
        os.close(pidfd)


def load() -> Native:
    """The library of this installation."""
    return Native(os.environ.get("PLOVER_NATIVE_DIR", DEFAULT_DIR))
