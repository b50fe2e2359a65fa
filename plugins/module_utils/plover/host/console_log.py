# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps the log of the guest's serial console small: a guest may write to it without end.

QEMU appends to the file. Once it is too large, its end goes to ``console.log.1`` and the file begins anew. A few lines may get
lost in between. With an earlier version QEMU's user could make files in this folder, so root follows no link here and writes
only to files of its own.
"""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path

log = logging.getLogger("plover")
CHUNK_BYTES = 64 << 10


class ConsoleLog:
    def __init__(self, path: Path, bytes_max: int) -> None:
        """``bytes_max``: of each of the two files, but for what the guest writes between two calls of :meth:`bound`."""
        self._path, self._old, self._bytes_max = path, path.with_name(path.name + ".1"), bytes_max
        self._told = False

    def bound(self) -> bool:
        """Call it often. True if the log was too large and begins anew."""
        try:
            found = self._path.lstat()
        except OSError:
            return False  # no QEMU yet
        if min(found.st_size, found.st_blocks * 512) <= self._bytes_max:
            return False  # a QEMU from before an upgrade does not append, so what was cut off is a hole
        try:
            self._keep_end(found.st_size)
        except OSError as error:
            self._tell(f"its old part is lost: {error.strerror}")
        try:
            fd = _not_through_a_link(str(self._path), os.O_WRONLY)
            try:
                os.ftruncate(fd, 0)
            finally:
                os.close(fd)
        except OSError as error:
            self._tell(f"it cannot be cut: {error.strerror}")
            return False
        return True

    def _keep_end(self, size: int) -> None:
        new = self._old.with_name(self._old.name + ".new")
        try:
            new.unlink(missing_ok=True)
            with open(self._path, "rb", opener=_not_through_a_link) as source, open(new, "xb") as target:
                source.seek(max(0, size - self._bytes_max))
                left = self._bytes_max
                while left > 0 and (chunk := source.read(min(left, CHUNK_BYTES))):
                    target.write(chunk)
                    left -= len(chunk)
            os.replace(new, self._old)
        except OSError:
            with contextlib.suppress(OSError):
                new.unlink()
            raise

    def _tell(self, problem: str) -> None:
        if not self._told:
            self._told = True
            log.warning("%s: %s; free space on its file system", self._path, problem)


def _not_through_a_link(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)
