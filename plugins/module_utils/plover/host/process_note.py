# SPDX-License-Identifier: GPL-3.0-or-later
"""Notes which QEMU leads, for a restart of the daemon; a reboot removes the note. A secondary's QEMU cannot be adopted."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

from ..errors import DurableStateError
from . import own_folder

NOTE_BYTES = 128  # all of a note, filled up with spaces: writing it anew takes no more room


class HolderNote:
    def __init__(self, folder: Path) -> None:
        self._path = folder / "holder.json"
        self._pid: int | None = None

    def write(self, pid: int) -> None:
        """``pid`` of the leading QEMU; 0 if none. Cheap if nothing changed. Raises DurableStateError.

        A leader that cannot write its note would lose its VM at its next restart. So the note has its room from the daemon's
        start on, and is written over in place, in one piece: a full file system does not matter later.
        """
        if pid != self._pid:
            text = json.dumps({"pid": pid, "start": _start_time(pid)})
            try:
                fd = self._own_file()
                try:
                    os.pwrite(fd, text.ljust(NOTE_BYTES - 1).encode() + b"\n", 0)
                    os.ftruncate(fd, NOTE_BYTES)  # an earlier version's note may be longer
                finally:
                    os.close(fd)
            except OSError as error:
                raise DurableStateError(f"run_dir: cannot write {self._path}: {error.strerror}; free space there") from error
            self._pid = pid

    def _own_file(self) -> int:
        """A descriptor of the note's file. With an earlier version QEMU's user could make files here: whatever is not ours goes."""
        with contextlib.suppress(OSError):  # a link, a pipe without a reader, a folder; or there is none yet
            fd = os.open(self._path, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            if own_folder.is_ours(os.fstat(fd)):
                return fd
            os.close(fd)
        self._path.unlink(missing_ok=True)
        return os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)

    def alive(self, running: int) -> bool:
        """Is the running QEMU (pid ``running``) the noted one?"""
        try:
            noted = json.loads(own_folder.read(self._path, NOTE_BYTES))
        except (OSError, ValueError, RecursionError):
            return False
        if not isinstance(noted, dict):
            return False
        pid = noted.get("pid")
        return isinstance(pid, int) and running == pid > 0 and _start_time(pid) == noted.get("start")


def _start_time(pid: int) -> str:
    """Start time of a process in clock ticks, to recognize a reused pid; '' if the process is gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return file.read().rsplit(")", 1)[1].split()[19]
    except (OSError, IndexError):
        return ""
