# SPDX-License-Identifier: GPL-3.0-or-later
"""Guest memory as a file that QEMU and the daemon both map."""

from __future__ import annotations

import ctypes as c
import mmap
import os

from .buffers import PAGE_BYTES, NativeError, address_of


class GuestRam:
    """Guest memory: the file that QEMU shares, mapped here too. ``pages`` of 4096 bytes."""

    def __init__(self, path: str, pages: int) -> None:
        size = pages * PAGE_BYTES
        try:
            with open(path, "r+b") as file:
                found = os.fstat(file.fileno()).st_size
                if found != size:
                    raise NativeError(
                        f"{path}: guest RAM of {found} bytes, the settings say {size}; "
                        "make guest_memory_mib equal on both replicas and restart the VM"
                    )
                self.map = mmap.mmap(file.fileno(), size)
        except OSError as error:
            raise NativeError(f"{path}: {error.strerror}; is QEMU running?") from error
        self.pages = pages
        self.path = path

    @property
    def address(self) -> int:
        return address_of(self.map, writable=True)

    def lock(self) -> bool:
        """Lock it in memory (mlock) until it is unmapped here, or a "soft-dirty" tracker of it is closed."""
        return not c.CDLL(None).mlock(c.c_void_p(self.address), c.c_size_t(self.pages * PAGE_BYTES))

    def close(self) -> None:
        try:
            self.map.close()
        except BufferError:  # a hash in another thread still reads it; the last reference unmaps it
            return
