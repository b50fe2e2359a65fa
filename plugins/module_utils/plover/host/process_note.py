# SPDX-License-Identifier: GPL-3.0-or-later
"""Notes which QEMU leads, for a restart of the daemon; a reboot removes the note. A secondary's QEMU cannot be adopted."""

from __future__ import annotations

import json
import os
from pathlib import Path


class HolderNote:
    def __init__(self, folder: Path) -> None:
        self._path = folder / "holder.json"
        self._pid: int | None = None

    def write(self, pid: int) -> None:
        """``pid`` of the leading QEMU; 0 if none. Cheap if nothing changed."""
        if pid != self._pid:
            text = json.dumps({"pid": pid, "start": _start_time(pid)})
            self._path.with_suffix(".new").write_text(text, encoding="utf-8")
            os.replace(self._path.with_suffix(".new"), self._path)
            self._pid = pid

    def alive(self, running: int) -> bool:
        """Is the running QEMU (pid ``running``) the noted one?"""
        try:
            noted = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        pid = noted.get("pid", 0)
        return bool(pid) and _start_time(pid) == noted.get("start") and running == pid


def _start_time(pid: int) -> str:
    """Start time of a process in clock ticks, to recognize a reused pid; '' if the process is gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return file.read().rsplit(")", 1)[1].split()[19]
    except (OSError, IndexError):
        return ""
