# SPDX-License-Identifier: GPL-3.0-or-later
"""Follows a member's history: each entry once, the old ones first, across the change of files (history.py).

The file that is read stays open, so what was written to it before it was replaced is not lost, whatever its name is by then.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from . import history

READ_BYTES = 2 * history.BYTES_MAX  # at one look; the rest comes with the next
_OPEN = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK  # whatever lies there, opening it does not wait


class Tail:
    def __init__(self, folder: Path) -> None:
        self._path = folder / "history.jsonl"
        self._fd: int | None = None
        self._offset, self._rest = 0, b""  # of the open file: bytes read, and the beginning of a line whose end is not written yet
        self._found = False  # has there been any file?
        self.damaged = 0  # lines passed over

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
        self._fd, self._offset, self._rest = None, 0, b""

    def look(self) -> list[dict[str, Any]]:
        """The entries since the last look; all of them at the first. Raises OSError if a file is there and cannot be read."""
        if self._fd is None:
            out = self._begin(with_older=not self._found)
            self._found = self._found or self._fd is not None or bool(out)
            return out
        out, whole = self._more()
        if not whole or not self._replaced():
            return out
        return out + self._more()[0] + self._change()  # it may have grown just before it was replaced

    def _begin(self, with_older: bool) -> list[dict[str, Any]]:
        """Open the file if it is there. It is open before the older one is read: so no change of files falls in between."""
        self._fd = _opened(self._path)
        out = self._older() if with_older else []
        return out + (self._more()[0] if self._fd is not None else [])

    def _change(self) -> list[dict[str, Any]]:
        """Go on with the new file. The older one is new, too, if the files changed twice since the last look."""
        missed = not self._same(history.older(self._path))
        self.damaged += bool(self._rest)
        self.close()
        return self._begin(with_older=missed)

    def _same(self, path: Path) -> bool:
        """Is the file of this name the open one?"""
        if self._fd is None:
            return False
        try:
            return os.path.samestat(os.stat(path), os.fstat(self._fd))
        except FileNotFoundError:
            return False

    def _replaced(self) -> bool:
        return self._path.exists() and not self._same(self._path)

    def _older(self) -> list[dict[str, Any]]:
        path = history.older(self._path)
        fd = None if self._same(path) else _opened(path)
        if fd is None:
            return []
        try:
            *lines, last = os.pread(fd, READ_BYTES, 0).split(b"\n")
        finally:
            os.close(fd)
        return self._entries([*lines, last])

    def _more(self) -> tuple[list[dict[str, Any]], bool]:
        """(entries of what was added to the open file, whether that is all of it)"""
        if self._fd is None:
            return [], True
        if os.fstat(self._fd).st_size < self._offset:  # somebody cut it off
            self._offset, self._rest = 0, b""
        data = os.pread(self._fd, READ_BYTES, self._offset)
        self._offset += len(data)
        *lines, rest = (self._rest + data).split(b"\n")
        self._rest = rest[: history.LINE_BYTES_MAX + 1]  # one that is longer is damaged, however long
        return self._entries(lines), len(data) < READ_BYTES

    def _entries(self, lines: list[bytes]) -> list[dict[str, Any]]:
        found = [history.parse(line) for line in lines if line]
        self.damaged += found.count(None)
        return [entry for entry in found if entry is not None]


def _opened(path: Path) -> int | None:
    try:
        return os.open(path, _OPEN)
    except FileNotFoundError:
        return None
