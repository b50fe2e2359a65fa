# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the kernel can tell which pages were written: each way is really tried on a page of this process. x86-64 only.

Linux Documentation/admin-guide/mm/userfaultfd.rst, pagemap.rst, soft-dirty.rst.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import struct
from collections.abc import Callable
from pathlib import Path

from ..native import huge_pages

DEVICE, SYS_USERFAULTFD = "/dev/userfaultfd", 323
NEW, API, REGISTER, PAGEMAP_SCAN = 0xAA00, 0xC018AA3F, 0xC020AA00, 0xC0606610
UFFD_API, FEATURES = 0xAA, (1 << 15) | (1 << 13) | (1 << 12)  # WP_ASYNC, WP_UNPOPULATED, WP_HUGETLBFS_SHMEM
MODE_WP = 2
WP_MATCHING, CHECK_WPASYNC, WRITTEN = 1, 2, 2
PAGE_BYTES, SOFT_DIRTY = 4096, 1 << 55
AUTO, UFFD_WP, SOFT, SCAN = "auto", "uffd-wp", "soft-dirty", "scan"  # setting syncvm_dirty_tracking


def choose(memory: Path) -> tuple[str, str]:
    """(the fastest back end that works here, why not a faster one). ``memory``: the folder of the guest's memory."""
    ways: tuple[tuple[str, Callable[[], str]], ...] = (
        (UFFD_WP, lambda: uffd_wp()),  # pylint: disable=unnecessary-lambda  # looked up late, as the other one
        (SOFT, lambda: soft_dirty() or huge_pages.why_possible(memory)),
    )
    slower: list[str] = []
    for way, problem in ways:
        if not (why := problem()):
            return way, "; ".join(slower)
        slower.append(f"{way} does not work: {why}")
    return SCAN, "; ".join(slower)


def uffd_wp() -> str:
    """Why uffd-wp does not work here; empty if it does."""
    fd = pagemap = -1
    try:
        fd = _open()
        fcntl.ioctl(fd, API, bytearray(struct.pack("QQQ", UFFD_API, FEATURES, 0)))
        with open("/dev/zero", "r+b") as zero:
            page = mmap.mmap(zero.fileno(), PAGE_BYTES)  # shared memory, as a guest's RAM is
        start = ctypes.addressof(ctypes.c_char.from_buffer(page))
        fcntl.ioctl(fd, REGISTER, bytearray(struct.pack("QQQQ", start, PAGE_BYTES, MODE_WP, 0)))
        pagemap = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
        _scan(pagemap, start)
        page[0] = 1
        return "" if _scan(pagemap, start) == 1 else "PAGEMAP_SCAN does not find the page that was written"
    except OSError as error:
        return f"the kernel says: {error.strerror}"
    finally:
        for one in (fd, pagemap):
            if one >= 0:
                os.close(one)


def _open() -> int:
    """As the preload library does."""
    flags = os.O_CLOEXEC | os.O_NONBLOCK
    if os.path.exists(DEVICE):
        device = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
        try:
            return int(fcntl.ioctl(device, NEW, flags))
        finally:
            os.close(device)
    libc = ctypes.CDLL(None, use_errno=True)
    fd = int(libc.syscall(SYS_USERFAULTFD, flags))
    if fd < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return fd


def _scan(pagemap: int, start: int) -> int:
    """How many pages at ``start`` were written since the last call."""
    regions = ctypes.create_string_buffer(24 * 4)
    fields = [96, WP_MATCHING | CHECK_WPASYNC, start, start + PAGE_BYTES, 0, ctypes.addressof(regions), 4, 0, 0, WRITTEN, 0, WRITTEN]
    return int(fcntl.ioctl(pagemap, PAGEMAP_SCAN, bytearray(struct.pack("12Q", *fields))))


def soft_dirty() -> str:
    """Why soft-dirty does not work here; empty if it does."""
    try:
        page = mmap.mmap(-1, PAGE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        page[0] = 1
        with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
            file.write("4")
        page[0] = 2
        address = ctypes.addressof(ctypes.c_char.from_buffer(page))
        with open("/proc/self/pagemap", "rb", buffering=0) as file:
            entry = struct.unpack("Q", os.pread(file.fileno(), 8, address // PAGE_BYTES * 8))[0]
    except OSError as error:
        return f"the kernel says: {error.strerror}"
    return "" if entry & SOFT_DIRTY else "the kernel is built without CONFIG_MEM_SOFT_DIRTY"
