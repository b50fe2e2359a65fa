# SPDX-License-Identifier: GPL-3.0-or-later
"""The file that QEMU writes its devices' state to, read with care: QEMU's user may put anything into that folder."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ..errors import QemuError

STATE_BYTES_MAX = 48 << 20


def forget(path: Path) -> None:
    """Before a save: should QEMU say that it wrote a state and write none, the one before is not taken for it."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise QemuError(f"QEMU's device state {path} cannot be replaced: {error.strerror}") from error


def read(path: Path) -> bytes:
    """What is in it. Raises QemuError if it is no file of a sensible size.

    A link would lead the daemon, which is root, to any file of this host and on to the other one; a pipe would keep it
    waiting for good.
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
