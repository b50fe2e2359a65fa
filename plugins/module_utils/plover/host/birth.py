# SPDX-License-Identifier: GPL-3.0-or-later
"""Tells a file from a copy of it: the file names its own birth and a checksum of its contents, in an extended attribute.

No program can set a file's birth time (statx(2), STATX_BTIME). So a file that comes back from a backup, or one whose contents
were replaced in place, names the birth of another file.

It is not noticed if a whole file system goes back (a snapshot of a disk), or if the very same file was moved away and is
moved back. A file system without birth times or attributes of users cannot tell either.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import struct
import zlib
from functools import cache
from pathlib import Path
from typing import Any

ATTRIBUTE = "user.plover.birth"
CANNOT = (errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EPERM)
_AT_FDCWD, _BTIME = -100, 0x800
_STATX_BYTES, _MASK, _AT = 256, struct.Struct("=I"), struct.Struct("=qI")
_BTIME_OFFSET = 80  # struct statx, stx_btime


@cache
def _statx() -> Any:
    return getattr(ctypes.CDLL(None, use_errno=True), "statx", None)


def born_ns(path: Path) -> int | None:
    """When the file was made, in ns since 1970; None: the file system does not tell. Raises OSError."""
    statx, found = _statx(), ctypes.create_string_buffer(_STATX_BYTES)
    if statx is None:
        return None
    if statx(_AT_FDCWD, os.fsencode(path), 0, _BTIME, found):
        error = ctypes.get_errno()
        if error in CANNOT:
            return None
        raise OSError(error, os.strerror(error), str(path))
    if not _MASK.unpack_from(found)[0] & _BTIME:
        return None
    seconds, ns = _AT.unpack_from(found, _BTIME_OFFSET)
    return int(seconds) * 10**9 + int(ns)


def _signature(path: Path) -> bytes | None:
    born = born_ns(path)
    return None if born is None else b"%d %08x" % (born, zlib.crc32(path.read_bytes()))


def sign(path: Path) -> bool:
    """Let the file name its own birth and contents. False if it cannot. Raises OSError."""
    signature = _signature(path)
    if signature is None:
        return False
    try:
        os.setxattr(path, ATTRIBUTE, signature)
    except OSError as error:
        if error.errno not in CANNOT:
            raise
        return False
    return True


def is_signed(path: Path) -> bool:
    """Does the file name its own birth and contents?"""
    with contextlib.suppress(OSError):
        return os.getxattr(path, ATTRIBUTE) == _signature(path)
    return False
