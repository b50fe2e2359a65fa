# SPDX-License-Identifier: GPL-3.0-or-later
"""A disk that forgets unsynced writes: the Files port of plover.consensus.durable, with power losses in mid-write."""

from __future__ import annotations

import errno
import random
from pathlib import Path

from plover.host.store import Files


class PowerLoss(BaseException):
    """The host died in the middle of a file operation. No Exception: nothing in the daemon may catch it."""


class Copy(str):
    """What a file holds that came back from a backup."""


class SimDisk(Files):
    """Two views of each name: what a reader sees now, and what is there after a power loss."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._seen: dict[str, str] = {}
        self._kept: dict[str, str] = {}
        self._unsynced: set[str] = set()
        self._renames: list[tuple[str, str]] = []
        self._removed: set[str] = set()
        self.full = False
        self.steps_to_power_loss: int | None = None

    def _step(self) -> None:
        if self.steps_to_power_loss is not None:
            self.steps_to_power_loss -= 1
            if self.steps_to_power_loss < 0:
                self.steps_to_power_loss = None
                raise PowerLoss

    def make_folder(self, path: Path) -> None:
        pass

    def read(self, path: Path) -> str:
        try:
            return self._seen[path.name]
        except KeyError:
            raise FileNotFoundError(path) from None

    def write(self, path: Path, text: str) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        self._step()
        self._seen[path.name] = text
        self._unsynced.add(path.name)
        self._step()

    def reserve(self, path: Path, size: int) -> None:
        """The hard case: a disk that is full has nothing left for the next state."""

    def sync(self, path: Path) -> None:
        self._step()
        if path.name in self._seen:
            self._kept[path.name] = self._seen[path.name]
            self._unsynced.discard(path.name)
        else:  # the folder: renames hold now
            for source, target in self._renames:
                self._rename_kept(source, target)
            self._renames = []
            for name in self._removed:
                self._kept.pop(name, None)
            self._removed = set()
        self._step()

    def replace(self, source: Path, target: Path) -> None:
        self._step()
        self._seen[target.name] = self._seen.pop(source.name)
        if source.name in self._unsynced:
            self._unsynced.discard(source.name)
            self._unsynced.add(target.name)
            self._kept[source.name] = self._torn(self._seen[target.name])
        self._renames.append((source.name, target.name))
        self._step()

    def exists(self, path: Path) -> bool:
        return path.name in self._seen

    def remove(self, path: Path) -> None:
        self._step()
        self._seen.pop(path.name, None)
        self._removed.add(path.name)
        self._step()

    def sign(self, path: Path) -> bool:
        return True

    def is_signed(self, path: Path) -> bool:
        return not isinstance(self._seen[path.name], Copy)

    def mark(self, name: str) -> None:
        """An empty file, as a play leaves it."""
        self._seen[name] = self._kept[name] = ""

    @property
    def forgets(self) -> bool:
        """A daemon that starts now remembers nothing that counts."""
        return isinstance(self._seen.get("state.json", Copy()), Copy)

    def wipe(self) -> None:
        """A new disk, or a folder that somebody cleaned up."""
        self._seen, self._kept, self._unsynced, self._renames, self._removed = {}, {}, set(), [], set()

    def backup(self) -> dict[str, str]:
        return dict(self._kept)

    def put_back(self, backup: dict[str, str]) -> None:
        """All files of the state folder are again as they were."""
        self.wipe()
        self._kept = {name: Copy(text) for name, text in backup.items()}
        self._seen = dict(self._kept)

    def _rename_kept(self, source: str, target: str) -> None:
        if source in self._kept:
            self._kept[target] = self._kept.pop(source)

    def _torn(self, text: str) -> str:
        return text[: self._rng.randrange(len(text) + 1)]

    def power_loss(self) -> None:
        """An unsynced rename holds or not; the file that it names may be torn."""
        for source, target in self._renames:
            if self._rng.random() < 0.5:
                self._rename_kept(source, target)
        for name in sorted(self._removed):
            if self._rng.random() < 0.5:
                self._kept.pop(name, None)
        self._renames, self._unsynced, self._removed = [], set(), set()
        self._kept.pop("state.new", None)
        self._seen = dict(self._kept)
