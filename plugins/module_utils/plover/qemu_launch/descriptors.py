# SPDX-License-Identifier: GPL-3.0-or-later
"""Opens, as root, what QEMU gets as descriptors. Root's files lie in root's folders, and no link is followed there."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import stat
from collections.abc import Callable

from ..host import own_folder
from ..host.console import complain

ABOVE = 100  # of the descriptors that QEMU gets
COPY_BYTES = 1 << 20


def open_all(rows: dict[str, list[str]], groups: set[int]) -> None:
    """Open each row, {number: [kind, path]}, under its number. ``groups``: of the user that QEMU will be, with its uid. Raises OSError."""
    opened: dict[int, int] = {}
    for number, (kind, path) in rows.items():
        fd = _WAYS[kind](path)
        if fd >= 0:
            fd = _readable(fd, groups) if kind == "boot" else fd
            opened[int(number)] = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, ABOVE)
            os.close(fd)
    for target, fd in opened.items():
        os.dup2(fd, target, inheritable=True)
        os.close(fd)


def _socket(path: str) -> int:
    """QEMU begins to listen, so its pid is that of the socket, and nobody is connected before QEMU is there."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as made:
        made.bind(path)
        return made.detach()


def _note(path: str) -> int:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)


def _console(path: str) -> int:
    """A VM without a log is better than none."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC
    try:
        fd = os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
        if own_folder.is_ours(os.fstat(fd)):
            return fd
        os.close(fd)
        why = "it is not an ordinary file of root's"
    except OSError as error:
        why = str(error.strerror)
    complain(f"the VM's console goes nowhere: {path}: {why}")
    return os.open(os.devnull, flags)


def _device(path: str) -> int:
    """-1 if this host has none: QEMU does what it can without."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return -1
    if stat.S_ISCHR(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    return -1


def _readable(fd: int, groups: set[int]) -> int:
    """QEMU opens its kernel anew through this descriptor. If the file's mode forbids it that, it gets a copy in memory."""
    found = os.fstat(fd)
    if not groups or found.st_mode & 0o004 or (found.st_mode & 0o040 and found.st_gid in groups):
        return fd
    copy = os.memfd_create("plover-boot", os.MFD_CLOEXEC)
    while os.sendfile(copy, fd, None, COPY_BYTES):
        pass
    os.close(fd)
    return copy


_WAYS: dict[str, Callable[[str], int]] = {
    "socket": _socket,
    "note": _note,
    "console": _console,
    "device": _device,
    "boot": lambda path: os.open(path, os.O_RDONLY | os.O_CLOEXEC),
    "image": lambda path: os.open(path, os.O_RDWR | os.O_CLOEXEC),
    "image to read": lambda path: os.open(path, os.O_RDONLY | os.O_CLOEXEC),
}
