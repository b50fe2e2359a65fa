# SPDX-License-Identifier: GPL-3.0-or-later
"""A host that may lose power: its state folder, one image and the marks of it."""

from __future__ import annotations

import errno
import itertools
import os

from plover.config.settings import Config
from plover.disks.marks import FILE, DiskMarks
from settings import settings

PATH = "/images/a.img"
CONFIG = Config(settings("primary", disks=[{"path": PATH}]))


class PowerLoss(Exception):
    pass


class Host:
    """A host's state folder and image: contents on the disk, and writes that wait in memory and reach the disk in any order.

    Both ports of the marks in one. ``steps``: operations until the power goes.
    """

    def __init__(self, image: str = "old", carries: bool = True) -> None:
        self.disk: dict[str, str] = {"image": image}
        self.waiting: list[tuple[str, str | None]] = []
        self.carries, self.steps = carries, 1 << 30
        self.failing: dict[str, int] = {}  # operation -> errno
        self.fails_after_put: tuple[str, ...] = ()  # once one of these is on the image, no sync of it succeeds

    def _step(self, name: str = "") -> None:
        if name in self.failing:
            raise OSError(self.failing[name], os.strerror(self.failing[name]))
        if not self.steps:
            raise PowerLoss
        self.steps -= 1

    def _now(self) -> dict[str, str]:
        now = dict(self.disk)
        for key, value in self.waiting:
            now.pop(key, None) if value is None else now.update({key: value})
        return now

    def power_losses(self) -> list[Host]:
        """Each host that may come back: with any part of the waiting writes, in order within one place."""
        out = []
        keys = sorted({key for key, _value in self.waiting})
        runs = [[value for at, value in self.waiting if at == key] for key in keys]
        for counts in itertools.product(*[range(len(run) + 1) for run in runs]):
            after = Host(carries=self.carries)
            after.disk = dict(self.disk)
            for key, run, count in zip(keys, runs, counts):
                if count:
                    after.disk.pop(key, None) if run[count - 1] is None else after.disk.update({key: run[count - 1]})
            out.append(after)
        return out

    # ---- the state folder ----
    def make_folder(self, path) -> None:
        pass

    def read(self, path) -> str:
        try:
            return self._now()[path.name]
        except KeyError:
            raise FileNotFoundError(path) from None

    def write(self, path, text: str) -> None:
        self._step("write")
        self.waiting.append((path.name, text))

    def replace(self, source, target) -> None:
        self._step()
        # A name may reach the disk before the contents: then it names the part of them that is there.
        self.waiting += [(target.name, self.disk.get(source.name, "")), (target.name, self._now()[source.name])]

    # ---- the image ----
    def hold(self, paths) -> None:
        self._step("hold")

    def release(self) -> None:
        pass

    def get(self, path: str, name: str) -> str:
        return self._now().get(name, "")

    def put(self, path: str, name: str, text: str) -> bool:
        self._step("put")
        if text in self.fails_after_put:
            self.failing = {"sync image": errno.EIO}
        if self.carries:
            self.waiting.append((name, text))
        return self.carries

    def drop(self, path: str, name: str) -> None:
        self._step()
        self.waiting.append((name, None))

    def tear(self) -> None:
        """Somebody writes to the image: QEMU, in the name of a copy or a merge."""
        self._step()
        self.waiting += [("image", "torn"), ("image", "new")]

    def sync(self, path) -> None:
        self._step("sync image" if path == PATH else "sync")
        here = (
            (lambda key: key == "image" or key.startswith("user."))
            if path == PATH
            else ((lambda key: key == path.name) if path.suffix else (lambda key: key == FILE))
        )
        for key, value in [item for item in self.waiting if here(item[0])]:
            self.disk.pop(key, None) if value is None else self.disk.update({key: value})
        self.waiting = [item for item in self.waiting if not here(item[0])]

    @property
    def marks(self) -> DiskMarks:
        out = DiskMarks(CONFIG, self, self)
        out.read()
        return out
