# SPDX-License-Identifier: GPL-3.0-or-later
"""What the daemons, their QEMUs and their hosts take at this moment, read from outside: /proc, statvfs, the journal's files."""

from __future__ import annotations

import os
import re
import threading
import time
from pathlib import Path

from ..chaos import members
from ..hosts import HOSTS, STATE_PATH
from .judge import Sample

EVERY_S = 3.0
JOURNAL_EVERY = 5  # samples: reading a journal costs more than all the rest
QEMU = "plover-qemu"


def process(pid: int) -> dict[str, float]:
    """Raises OSError if it is gone."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = {key: float(number) for key, number in re.findall(r"^(RssAnon|Threads):\s+(\d+)", status, re.MULTILINE)}
    return {"heap_kib": found["RssAnon"], "threads": found["Threads"], "fds": float(len(os.listdir(f"/proc/{pid}/fd")))}


def _used_kib(path: Path, without: tuple[str, ...] = ()) -> float:
    """Of a small file system, without files of these patterns."""
    found = os.statvfs(path)
    left_out = sum(file.stat().st_blocks // 2 for pattern in without for file in path.glob(pattern))
    return (found.f_blocks - found.f_bfree) * found.f_frsize / 1024 - left_out


def _folder_kib(path: Path) -> float:
    return sum(file.stat().st_blocks for file in path.rglob("*") if file.is_file()) / 2


def host(name: str) -> dict[str, float]:
    """Raises OSError if it is off, or a file goes away just now."""
    root = Path(f"/proc/{members.first_process(name) or -1}/root")
    return {
        "run_kib": _used_kib(root / "run"),
        "shm_kib": _used_kib(root / "dev/shm", ("plover/*.ram", "*/plover/*.ram")),
        "state_kib": _folder_kib(root / STATE_PATH.lstrip("/")),
    }


class Sampler(threading.Thread):
    """Samples all hosts until it is told to end."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.samples: list[Sample] = []
        self.began, self.began_real = time.monotonic(), time.time()
        self._ending = threading.Event()

    def run(self) -> None:
        count = 0
        while not self._ending.wait(EVERY_S):
            for name in HOSTS:
                self._look(name, with_journal=count % JOURNAL_EVERY == 0)
            count += 1

    def end(self) -> list[Sample]:
        self._ending.set()
        self.join()
        return self.samples

    def _look(self, name: str, with_journal: bool) -> None:
        for unit in (members.DAEMON[name], *((QEMU,) if name in members.REPLICAS else ())):
            for pid in members.pids(name, unit):
                self._note(f"{name} {unit}", pid, lambda pid=pid: process(pid))
        self._note(name, members.first_process(name), lambda: host(name))
        if with_journal:
            self._note(f"{name} journal", 0, lambda: {"journal_lines": float(members.journal(name, self.began_real).count("\n"))})

    def _note(self, who: str, pid: int, look) -> None:
        try:
            figures = look()
        except (OSError, KeyError):  # it ends just now, or its host is off
            return
        self.samples.append(Sample(who, pid, round(time.monotonic() - self.began, 2), figures))
