# SPDX-License-Identifier: GPL-3.0-or-later
"""Other programs' output and other users' files, bounded in time and bytes."""

from __future__ import annotations

import os
import select
import signal
import stat
import subprocess
import time

CHUNK_BYTES = 65_536
ENV = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "SYSTEMD_PAGER": ""}


def output_of(argv: list[str], timeout_s: float, bytes_max: int) -> str:
    """What a program says on both its outputs: the end of it, and how it ended if not well. Raises OSError if it cannot be run."""
    end = time.monotonic() + timeout_s
    with subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=ENV, start_new_session=True
    ) as process:
        try:
            said = _read(process, end, bytes_max)
            ended = _end(process, end, timeout_s)
        except BaseException:  # Ctrl-C, above all: nothing may be left behind
            _kill(process)
            raise
    return said + ended


def _read(process: subprocess.Popen[bytes], end: float, bytes_max: int) -> str:
    """The last ``bytes_max`` bytes of what it says until ``end``."""
    data, left_out = b"", 0
    fd = process.stdout.fileno() if process.stdout else -1
    while (left_s := end - time.monotonic()) > 0 and select.select([fd], [], [], left_s)[0]:
        chunk = os.read(fd, CHUNK_BYTES)
        if not chunk:
            break
        data += chunk
        if len(data) > 2 * bytes_max:  # not at each chunk: that would copy all the time
            left_out, data = left_out + len(data) - bytes_max, data[-bytes_max:]
    left_out += max(0, len(data) - bytes_max)
    begins = f"({left_out} bytes before this were left out)\n" if left_out else ""
    return begins + data[-bytes_max:].decode("utf-8", "replace")


def _end(process: subprocess.Popen[bytes], end: float, timeout_s: float) -> str:
    """How it ended; empty if well."""
    try:
        process.wait(max(0.1, end - time.monotonic()))
    except subprocess.TimeoutExpired:
        _kill(process)
        return f"\n(stopped: it took longer than {timeout_s:g} s)\n"
    return f"\n(exit status {process.returncode})\n" if process.returncode else ""


def _kill(process: subprocess.Popen[bytes]) -> None:
    """It, and what it began."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass  # all of them have ended


def contents_of(path: str | os.PathLike[str], bytes_max: int) -> bytes:
    """Of a regular file: the end of it. A link is not followed: some folders belong to unprivileged users. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(22, "is no regular file", os.fspath(path))
        return os.pread(fd, bytes_max, max(0, found.st_size - bytes_max))
    finally:
        os.close(fd)
