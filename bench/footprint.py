# SPDX-License-Identifier: GPL-3.0-or-later
"""How much memory a host's daemon and QEMU take besides the guest's RAM, which both map from one file."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import NamedTuple

from . import hosts

DAEMON, QEMU = "daemon", "qemu"
LOOK_S = 0.02
_FIELD = re.compile(r"(\w+):\s+(\d+) kB")


class Footprint(NamedTuple):
    """MiB. ``private``: memory of this process alone, without the RAM file's mapping; ``ram``: resident part of that mapping."""

    private: float
    ram: float


def processes(host: str) -> dict[str, int]:
    """The pids of the host's daemon and QEMU."""
    out = {}
    for pid in hosts.sh(f"ip netns pids {host}").split():
        name = Path(f"/proc/{pid}/comm").read_text()
        out[QEMU if name.startswith("qemu") else DAEMON] = int(pid)
    return out


def of_process(pid: int, ram_file: Path) -> Footprint:
    return of_smaps(Path(f"/proc/{pid}/smaps").read_text(), str(ram_file))


def of_smaps(text: str, ram_file: str) -> Footprint:
    """See proc(5): a line that names a mapping, then its fields in kB."""
    private = ram = 0
    in_ram = False
    for line in text.splitlines():
        field = _FIELD.match(line)
        if not field:
            # "VmFlags:" is the one line of a mapping that is neither.
            in_ram = line.endswith(ram_file) if not line.startswith("VmFlags") else in_ram
        elif in_ram and field[1] == "Rss":
            ram += int(field[2])
        elif not in_ram and field[1] in ("Private_Clean", "Private_Dirty"):
            private += int(field[2])
    return Footprint(round(private / 1024, 1), round(ram / 1024, 1))


def file_mib(ram_file: Path) -> float:
    """Space that the file takes in its tmpfs."""
    return round(ram_file.stat().st_blocks * 512 / 2**20, 1)


class Peak:
    """The most anonymous memory of some processes, over many samples. It avoids smaps, which would hold the lock of their mappings."""

    def __init__(self, pids: dict[str, int]) -> None:
        self._pids, self._end = pids, threading.Event()
        self.mib = dict.fromkeys(pids, 0.0)
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _look(self) -> None:
        while True:
            for name, pid in self._pids.items():
                self.mib[name] = max(self.mib[name], anonymous_mib(pid))
            if self._end.wait(LOOK_S):
                return


def anonymous_mib(pid: int) -> float:
    try:
        found = re.search(r"^RssAnon:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.M)
    except OSError:
        return 0.0  # it ended just now; who looks at its figures notices
    return round(int(found[1]) / 1024, 1) if found else 0.0
