# SPDX-License-Identifier: GPL-3.0-or-later
"""Which copy of the leader's disks this host's images are: a name in a small file, there only while it is true."""
from __future__ import annotations

import os
import threading
from pathlib import Path

from .config import Config

NAME_BYTES_MAX = 100


class DiskCopy:
    """One for each QEMU. The name of a copy is that of the fill that made it, ``VIEW-JOIN``: no other fill has it."""

    def __init__(self, config: Config) -> None:
        self._path = config.state_path / "disk-copy"
        self._images = [disk.path for disk in config.disk_list]
        self._lock, self._over = threading.Lock(), False

    @staticmethod
    def name(tag: tuple) -> str:
        return f"{tag[1]}-{tag[2]}"

    def read(self) -> str:
        """Empty if the images are no copy."""
        try:
            return self._path.read_bytes()[:NAME_BYTES_MAX].decode("ascii")
        except (OSError, ValueError):
            return ""

    def write(self, name: str) -> None:
        """The images are this copy: they are on the disk first, so a power loss takes nothing of them. Raises OSError."""
        for path in self._images:
            _sync(path)
        with self._lock:
            if not self._over:
                self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                self._path.write_text(name, encoding="ascii")
                _sync(self._path)

    def forget(self) -> None:
        """Our own VM writes to the images from now on. Raises OSError."""
        with self._lock:
            self._over = True
            if self._path.exists():
                self._path.unlink()
                _sync(self._path.parent)


def _sync(path: str | Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
