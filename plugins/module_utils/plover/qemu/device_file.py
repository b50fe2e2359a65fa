# SPDX-License-Identifier: GPL-3.0-or-later
"""The file with QEMU's device state, read with care: QEMU's user may put anything into that folder."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ..errors import QemuError

STATE_BYTES_MAX = 48 << 20


def forget(path: Path) -> None:
    """Remove the old file before a save: if QEMU writes none, the old state must not pass for the new one."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise QemuError(f"QEMU's device state {path} cannot be replaced: {error.strerror}") from error


def read(path: Path) -> bytes:
    """The file's contents. Raises QemuError if it is not an ordinary file of sensible size.

    Through a link, the daemon, which is root, would send any file of this host to the other one; on a pipe it would wait for
    ever.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise QemuError(f"QEMU wrote no device state that can be read: {path}: {error.strerror}") from error
    with open(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise QemuError(f"QEMU's device state {path} is not an ordinary file")
        out = file.read(STATE_BYTES_MAX + 1)
    if len(out) > STATE_BYTES_MAX:
        raise QemuError(f"QEMU's device state {path} is over {STATE_BYTES_MAX} bytes")
    return out
