# SPDX-License-Identifier: GPL-3.0-or-later
"""The few operations on image files that names and marks need. Each raises OSError.

Linux reports a lost write once: to each descriptor that was open then, and to the first one opened afterwards. QEMU's own
flush may take that report. So :meth:`ImageFiles.hold` opens the images before anybody writes to them, and
:meth:`ImageFiles.sync` syncs those descriptors.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable

CANNOT_CARRY = (errno.ENOTSUP, errno.EPERM)  # a file system without extended attributes; a block device
NONE = (*CANNOT_CARRY, errno.ENODATA, errno.ENOENT)


class ImageFiles:
    def __init__(self) -> None:
        self._held: dict[str, int] = {}

    def hold(self, paths: Iterable[str]) -> None:
        """Open the images, after a sync of those held before. If that raises OSError, they are opened anew all the same."""
        paths = list(paths)
        try:
            for path in paths:
                self.sync(path)
        finally:
            self.release()
            for path in paths:
                self._held[path] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def release(self) -> None:
        while self._held:
            os.close(self._held.popitem()[1])

    def get(self, path: str, name: str) -> str:
        """An extended attribute; empty if there is none."""
        try:
            return os.getxattr(path, name).decode("ascii", "replace")
        except OSError as error:
            if error.errno in NONE:
                return ""
            raise

    def put(self, path: str, name: str, text: str) -> bool:
        """Set an extended attribute. False if the file cannot have any."""
        try:
            os.setxattr(path, name, text.encode("ascii"))
        except OSError as error:
            if error.errno in CANNOT_CARRY:
                return False
            raise
        return True

    def drop(self, path: str, name: str) -> None:
        try:
            os.removexattr(path, name)
        except OSError as error:
            if error.errno not in NONE:
                raise

    def sync(self, path: str) -> None:
        """All writes to the image are on the disk when this returns."""
        held = self._held.get(path)
        fd = os.open(path, os.O_RDONLY) if held is None else held
        try:
            os.fsync(fd)
        finally:
            if held is None:
                os.close(fd)
