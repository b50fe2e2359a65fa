# SPDX-License-Identifier: GPL-3.0-or-later
"""Folders and files that only this daemon's user may write: what lies in them can be trusted, and a name in them is what it says.

Everything here looks at what it has opened, never at a name twice.
"""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

from ..errors import QemuError

OTHERS_WRITE = 0o022


def make(path: Path, setting: str, mode: int) -> None:
    """A folder of ours that nobody else can write, made if it is not there. Raises QemuError, which names the setting."""
    try:
        fd = _open(path, mode)
    except OSError as error:
        raise QemuError(f"{setting}: {path} cannot be used as a folder ({error.strerror}); remove it, or choose another place") from error
    try:
        found = os.fstat(fd)
        if found.st_uid != os.geteuid() or found.st_mode & OTHERS_WRITE:
            raise QemuError(
                f"{setting}: others may write to {path} (owner {found.st_uid}, mode {stat.S_IMODE(found.st_mode):o}), so what is in it "
                "cannot be trusted; stop this host's VMs, remove it, and run the deploy play"
            )
    finally:
        os.close(fd)


def claim(path: Path, setting: str, mode: int) -> None:
    """The same for a folder of which an earlier version gave a share to QEMU's user: it is ours from now on.

    What somebody else put there is removed, and so is what is there under another name as well. A socket or file that root
    made stays: a QEMU of that version may still run.
    """
    try:
        fd = _open(path, mode)
        try:
            found = os.fstat(fd)
            if found.st_uid != os.geteuid():
                raise QemuError(f"{setting}: {path} belongs to user {found.st_uid}; remove it, or choose another place")
            os.fchown(fd, -1, os.getegid())
            os.fchmod(fd, mode)
            if found.st_mode & OTHERS_WRITE:
                _remove_others(fd)
        finally:
            os.close(fd)
    except OSError as error:
        raise QemuError(f"{setting}: {path} cannot be used as a folder ({error.strerror}); remove it, or choose another place") from error


def is_ours(found: os.stat_result) -> bool:
    """An ordinary file of ours, under one name, that nobody else can write."""
    alone = found.st_uid == os.geteuid() and found.st_nlink == 1 and not found.st_mode & OTHERS_WRITE
    return alone and stat.S_ISREG(found.st_mode)


def read(path: Path, bytes_max: int) -> bytes:
    """A file of ours. Raises OSError, also if it is not ours."""
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        if not is_ours(os.fstat(file.fileno())):
            raise PermissionError(1, "it is not an ordinary file of this daemon's user alone", str(path))
        return file.read(bytes_max)


def write(path: Path, data: bytes) -> None:
    """A new file, whatever was there. Raises OSError."""
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(data)


def _open(path: Path, mode: int) -> int:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
    try:
        os.mkdir(path, mode)
    except FileExistsError:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    os.fchmod(fd, mode)  # whatever the umask is
    return fd


def _remove_others(fd: int) -> None:
    for name in os.listdir(fd):
        found = os.lstat(name, dir_fd=fd)
        if stat.S_ISDIR(found.st_mode):
            if found.st_uid != os.geteuid():
                shutil.rmtree(f"/proc/self/fd/{fd}/{name}")
        elif found.st_uid != os.geteuid() or found.st_nlink != 1 or stat.S_ISLNK(found.st_mode):
            os.unlink(name, dir_fd=fd)
