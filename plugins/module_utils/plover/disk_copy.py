# SPDX-License-Identifier: GPL-3.0-or-later
"""Which copies of the leader's disks this host's images are: names on each image itself, there only while they are true.

A copy's name is made by the secondary's side, one for each QEMU. While the copy is under way its name is on the image with
this boot's id behind it: a write that QEMU has confirmed outlives QEMU, but not a power loss. Once all is on the disk, the
name stands alone.
"""
from __future__ import annotations

import errno
import os
import threading
import uuid
from pathlib import Path

from .config import Config

ATTRIBUTE = "user.plover.copy"  # on the file: another file that is put in its place has none
NAMES_MAX = 4  # a secondary that could not join a few times in a row still knows what it had
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class DiskCopy:
    """One for each QEMU. ``name``: of the copy that its fill makes; no other has it."""

    def __init__(self, config: Config, boot: str = "") -> None:
        self._disks = config.disk_list
        self._boot = boot or BOOT_ID.read_text().strip()
        self._lock, self._over = threading.Lock(), False
        self.name = uuid.uuid4().hex

    def read(self) -> list[str]:
        """Names of the copies that all images are."""
        names = [[name for name, _at, boot in (word.partition("@") for word in _get(disk.path)) if boot in ("", self._boot)]
                 for disk in self._disks]
        return [name for name in names[0] if all(name in others for others in names)] if names else []

    def begin(self) -> list[str]:
        """A copy may begin from now on. Returns what :meth:`read` does.

        An image that cannot carry a name (a block device) has none. One of qcow2 gets this one only at its end: what QEMU
        keeps of it in memory dies with QEMU.
        """
        held = self.read()
        for disk in self._disks:
            words = _get(disk.path) + ([f"{self.name}@{self._boot}"] if disk.format == "raw" else [])
            try:
                os.setxattr(disk.path, ATTRIBUTE, " ".join(words[-NAMES_MAX:]).encode("ascii"))
            except OSError as error:
                if error.errno not in (errno.ENOTSUP, errno.EPERM):
                    raise
        return held

    def write(self) -> None:
        """The images are the copy: they are on the disk first, so a power loss takes nothing of them. Raises OSError, also
        where a file cannot carry a name."""
        for disk in self._disks:
            _sync(disk.path)
        with self._lock:
            if not self._over:
                for disk in self._disks:
                    os.setxattr(disk.path, ATTRIBUTE, self.name.encode("ascii"))
                    _sync(disk.path)

    def forget(self) -> None:
        """Our own VM writes to the images from now on. Raises OSError."""
        with self._lock:
            self._over = True
            for disk in self._disks:
                if _get(disk.path):
                    os.removexattr(disk.path, ATTRIBUTE)
                    _sync(disk.path)


def _get(path: str) -> list[str]:
    try:
        return os.getxattr(path, ATTRIBUTE).decode("ascii").split()
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.ENOTSUP, errno.ENOENT, errno.EPERM):
            return []
        raise
    except ValueError:
        return []


def _sync(path: str) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
