# SPDX-License-Identifier: GPL-3.0-or-later
"""Which copy of the leader's disks this host's images are: a name on each image itself, there only while it is true."""
from __future__ import annotations

import errno
import os
import threading

from .config import Config

ATTRIBUTE = "user.plover.copy"  # on the file: another file that is put in its place has none


class DiskCopy:
    """One for each QEMU. The name of a copy is that of the fill that made it, ``VIEW-JOIN``: no other fill has it."""

    def __init__(self, config: Config) -> None:
        self._images = [disk.path for disk in config.disk_list]
        self._lock, self._over = threading.Lock(), False

    @staticmethod
    def name(tag: tuple) -> str:
        return f"{tag[1]}-{tag[2]}"

    def read(self) -> str:
        """Empty if the images are no copy, or not all of one."""
        names = {_get(path) for path in self._images}
        return names.pop() if len(names) == 1 else ""

    def write(self, name: str) -> None:
        """The images are this copy: they are on the disk first, so a power loss takes nothing of them. Raises OSError, also
        where a file cannot carry a name (block devices)."""
        for path in self._images:
            _sync(path)
        with self._lock:
            if not self._over:
                for path in self._images:
                    os.setxattr(path, ATTRIBUTE, name.encode("ascii"))
                    _sync(path)

    def forget(self) -> None:
        """Our own VM writes to the images from now on. Raises OSError."""
        with self._lock:
            self._over = True
            for path in self._images:
                if _get(path):
                    os.removexattr(path, ATTRIBUTE)
                    _sync(path)


def _get(path: str) -> str:
    try:
        return os.getxattr(path, ATTRIBUTE).decode("ascii")
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.ENOTSUP, errno.ENOENT, errno.EPERM):
            return ""
        raise
    except ValueError:
        return ""


def _sync(path: str) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
