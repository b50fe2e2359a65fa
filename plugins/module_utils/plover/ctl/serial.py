# SPDX-License-Identifier: GPL-3.0-or-later
"""``ploverctl console``: what the guest has said on its serial console, as this host's copy of it. Read from files, without a daemon.

A guest may say anything: what a terminal would obey is shown as text, but for colours, which are left out.
"""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

from ..host.console import complain, say, until_enough

LOOK_S = 0.2
READ_BYTES_MAX = 4 << 20  # of the end: more than the log's limit by default
_COLOURS = re.compile(rb"\x1b\[[0-9;]*m")
_SAFE = re.compile(r"[^\t\x20-\x7e\xa0-\ud7ff\ue000-\U0010ffff]")


class Console:
    """``folder``: of the VM's logs (host/console_log.py keeps them small)."""

    def __init__(self, folder: Path, name: str) -> None:
        self._path, self._old = folder / name, folder / f"{name}.1"
        self._at, self._rest = 0, b""

    def last(self, count: int) -> list[str]:
        """The last lines so far. Raises OSError if there is no log."""
        end = self._read(0)
        lines = self._whole(end)
        if len(lines) < count and self._old.exists():
            with open(self._old, "rb", opener=_no_link) as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - READ_BYTES_MAX))
                lines = [*file.read(READ_BYTES_MAX).splitlines(), *lines]
        return [shown(line) for line in lines[-count:]]

    def new(self) -> list[str]:
        """Whole lines since the last call. The log may have begun anew. Raises OSError."""
        return [shown(line) for line in self._whole(self._read(self._at))]

    def _read(self, at: int) -> bytes:
        with open(self._path, "rb", opener=_no_link) as file:
            size = os.fstat(file.fileno()).st_size
            if size < at:
                at, self._rest = 0, b""
            at = max(at, size - READ_BYTES_MAX)
            file.seek(at)
            data = file.read(READ_BYTES_MAX)
            self._at = at + len(data)
        return data

    def _whole(self, data: bytes) -> list[bytes]:
        *lines, self._rest = (self._rest + data).replace(b"\r", b"").split(b"\n")
        self._rest = self._rest[-READ_BYTES_MAX:]
        return lines


def shown(line: bytes) -> str:
    text = _COLOURS.sub(b"", line).decode("utf-8", "backslashreplace")
    return _SAFE.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def _no_link(path: str, flags: int) -> int:
    """An earlier version let QEMU's user make files there."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC)


def console(folder: Path, name: str, count: int, follow: bool) -> int:
    log = Console(folder, name)
    try:
        for line in log.last(count):
            say(line)
        if follow:
            with until_enough():
                while True:
                    time.sleep(LOOK_S)
                    for line in log.new():
                        say(line)
    except OSError as error:
        complain(f"ploverctl: {error.filename or folder}: {error.strerror}; this host has no VM with a console, or never had")
        return 1
    return 0
