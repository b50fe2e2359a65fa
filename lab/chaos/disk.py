# SPDX-License-Identifier: GPL-3.0-or-later
"""A small real disk for each member's durable state, so that it can be filled: ext4 in a file, kept over a power loss."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from ..hosts import Host, sh

SIZE_BYTES = 8 << 20
BALLAST = "ballast"


def plug_in(host: Host) -> None:
    """Before the host is switched on for the first time."""
    image = host.folder / "state.img"
    host.state_disk.mkdir(parents=True, exist_ok=True)
    if os.path.ismount(host.state_disk):
        return
    if not image.exists():
        with open(image, "wb") as file:
            file.truncate(SIZE_BYTES)
        sh("mkfs.ext4", "-q", "-m", "0", "-b", "1024", str(image))
    sh("mount", "-o", "loop", str(image), str(host.state_disk))


def fill(host: Host) -> None:
    """Until not one byte more can be written."""
    with open(_ballast(host), "wb", buffering=0) as file:
        for size in (65_536, 1024, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
        os.fsync(file.fileno())


def free(host: Host) -> None:
    _ballast(host).unlink(missing_ok=True)


def _ballast(host: Host) -> Path:
    return host.state_disk / BALLAST
