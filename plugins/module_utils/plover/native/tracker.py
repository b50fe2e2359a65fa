# SPDX-License-Identifier: GPL-3.0-or-later
"""Dirty tracking of a QEMU: the native library's tracker, and the address and userfaultfd that it needs."""

from __future__ import annotations

import ctypes as c
import os
from array import array
from pathlib import Path
from typing import TYPE_CHECKING

from .buffers import PAGE_BYTES, NativeError, address_of, array_address, bytes_of, checked

if TYPE_CHECKING:
    from .buffers import Buffer

_SYS_PIDFD_GETFD = 438


class Tracker:
    def __init__(self, lib: c.CDLL, handle: c.c_void_p, backend: str, pages: int, keep: tuple[object, ...]) -> None:
        self._lib, self._handle, self.backend, self._pages, self._keep = lib, handle, backend, pages, keep

    def fetch(self, bitmap: bytearray, stopped: bool = False) -> int:
        """OR the pages written since the last call into ``bitmap``; returns how many. ``stopped``: nobody writes meanwhile."""
        words = (self._pages + 63) // 64
        if len(bitmap) != 8 * words:
            raise NativeError(f"dirty bitmap of {len(bitmap)} bytes, need {8 * words}")
        fetch = self._lib.plover_tracker_fetch_stopped if stopped else self._lib.plover_tracker_fetch
        return checked(fetch(self._handle, address_of(bitmap, True), words), "dirty tracking")

    def synced(self, index: array[int], data: Buffer | None) -> None:
        """Both hosts now hold ``data`` (4096 bytes per page; None: zeros) in the pages of ``index`` (array "I"). This is the
        pages' clean content."""
        if data is not None and bytes_of(data) != PAGE_BYTES * len(index):
            raise NativeError(f"{bytes_of(data)} bytes for {len(index)} pages")
        checked(
            self._lib.plover_tracker_synced(
                self._handle, array_address(index, "I"), len(index), None if data is None else address_of(data, False)
            ),
            "dirty tracking",
        )

    def close(self) -> None:
        if self._handle:
            self._lib.plover_tracker_close(self._handle)
            self._handle = c.c_void_p()


def mapping_address(pid: int, ram_path: str, pages: int) -> int:
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


def fetch_uffd(pid: int, uffd_file: str) -> int:
    """The userfaultfd that the preload library opened in QEMU, as a descriptor of this process."""
    try:
        words = Path(uffd_file).read_text(encoding="ascii").split(maxsplit=1)
        failed = words[1].startswith("error")
        told, number = int(words[0]), -1 if failed else int(words[1])
    except (OSError, ValueError, IndexError) as error:
        raise NativeError(f"{uffd_file}: QEMU told no userfaultfd ({error}); is libplover_preload.so installed?") from error
    if told != pid or failed:
        raise NativeError(
            f"uffd-wp: QEMU could open no userfaultfd: {words[1].strip()}; needs /dev/userfaultfd and "
            "Linux >= 6.7 (or set syncvm_dirty_tracking: scan)"
        )
    libc = c.CDLL(None, use_errno=True)
    try:
        pidfd = os.pidfd_open(pid)
    except OSError as error:
        raise NativeError(f"QEMU (pid {pid}): {error.strerror}") from error
    try:
        fd: int = libc.syscall(_SYS_PIDFD_GETFD, pidfd, number, 0)
        if fd < 0:
            raise NativeError(f"pidfd_getfd from QEMU: {os.strerror(c.get_errno())}; the daemon needs CAP_SYS_PTRACE")
        return fd
    finally:
        os.close(pidfd)
