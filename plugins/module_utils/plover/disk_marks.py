# SPDX-License-Identifier: GPL-3.0-or-later
"""What this host's images are fit for: a durable mark on each, which cold start, a forced failover and a fill obey.

    unmarked    nothing is known against it
    whole       a copy of the leader's, complete and on the disk, and since then written as the leader's is
    live        this host's VM writes to it; after a power loss it is as any disk after one
    merging     promoted: QEMU merges the overlays into it. They are in memory; without them it is of two moments
    incomplete  a copy to it has begun and is not complete on the disk
    missed      it lacks a write that the guest took for done

Each tells since which view. Order is what matters: a mark that warns is durable *before* the first write that tears the
image, one that clears *after* all that was written is on the disk. Each mark is kept twice, in the state folder and on the
image itself (files only), and the worse one counts: the state folder may be lost, an image may be moved.
"""
from __future__ import annotations

import json
import threading
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from .durable import Files
from .image_files import ImageFiles

if TYPE_CHECKING:
    from .config import Config

UNMARKED, WHOLE, LIVE, MERGING, INCOMPLETE, MISSED = "unmarked", "whole", "live", "merging", "incomplete", "missed"
UNREADABLE = "unreadable"
TORN = (MERGING, INCOMPLETE, UNREADABLE, MISSED)  # the worst last
ATTRIBUTE = "user.plover.mark"
FILE = "disks.json"
_TEXT = {
    UNMARKED: "no copy of another host's, as far as this host knows",
    WHOLE: "whole as of view {view}, as the leader of that view left it",
    LIVE: "whole as of view {view}, in which this host's VM used it",
    MERGING: "torn: its VM's last writes were being merged into it after the failover to view {view}",
    INCOMPLETE: "incomplete: a copy of the leader's disk began in view {view} and is not complete",
    UNREADABLE: "marked in a way that this version cannot read",
    MISSED: "torn: it missed a write in view {view}"}


class Mark(NamedTuple):
    state: str = UNMARKED
    view: int = 0

    @property
    def torn(self) -> bool:
        return self.state in TORN

    def __str__(self) -> str:
        return _TEXT[self.state].format(view=self.view)


def parse(text: str) -> Mark:
    """A mark as it is written: "merging 7"."""
    if not text:
        return Mark()
    state, _space, view = text.partition(" ")
    known = state in _TEXT and view.isdecimal() and len(view) <= 20
    return Mark(state, int(view)) if known else Mark(UNREADABLE)


def worse(one: Mark, other: Mark) -> Mark:
    """The one that warns more; of two that do not warn, the later one."""
    rank = {state: n for n, state in enumerate(TORN, 1)}
    return max(one, other, key=lambda mark: (rank.get(mark.state, 0), mark.view, mark.state != UNMARKED))


def why_torn(marks: tuple[Mark, ...]) -> str:
    """Which of a host's images must not be booted, and why; empty if they may."""
    return "; ".join(f"disks[{n}] is {mark}" for n, mark in enumerate(marks) if mark.torn)


def why_no_source(marks: tuple[Mark, ...]) -> str:
    """Why a leader's images must not be copied; empty if they may. (One that is being merged into is, once that is over.)"""
    return "; ".join(f"disks[{n}] is {mark}" for n, mark in enumerate(marks) if mark.state == MISSED)


class DiskMarks:
    """One for each daemon. Its methods wait for the disk."""

    def __init__(self, config: Config, files: Files | None = None, images: ImageFiles | None = None) -> None:
        self._paths = [disk.path for disk in config.disk_list]
        self._file = config.state_path / FILE
        self._files, self._images = files or Files(), images or ImageFiles()
        self._lock = threading.Lock()
        self.now: tuple[Mark, ...] = tuple(Mark() for _path in self._paths)

    def read(self) -> tuple[Mark, ...]:
        """What the disk says; :attr:`now` is that from here on."""
        with self._lock:
            noted = self._load()
            self.now = tuple(worse(self._on_image(path), noted.get(path, Mark())) for path in self._paths)
            return self.now

    def set(self, state: str, view: int, number: int | None = None) -> None:
        """Mark all images, or that of one disk; it is durable when this returns.

        One that clears says that all that was written is on the disk. Raises OSError: then nothing may be done that the
        mark was to warn of, and an image is as torn as it was.
        """
        with self._lock:
            self._set(state, view, number)

    def missed(self, view: int, number: int | None = None) -> None:
        """A write is lost that the guest took for done. Only a whole copy of another host's image mends that.

        This daemon goes by it even if the mark cannot be set.
        """
        with self._lock:
            self.now = self._marks(MISSED, view, number)
            self._set(MISSED, view, number)

    def merged(self, view: int) -> bool:
        """The overlays are in the images, and that is on the disk. False if one missed a write: it stays marked so."""
        return self._go_on(MERGING, LIVE, view)

    def filled(self, view: int) -> bool:
        """The copy is complete, and on the disk."""
        return self._go_on(INCOMPLETE, WHOLE, view)

    def _go_on(self, before: str, state: str, view: int) -> bool:
        with self._lock:
            if any(mark.torn and mark.state != before for mark in self.now):
                return False
            self._set(state, view, None)
            return True

    def _set(self, state: str, view: int, number: int | None) -> None:
        marks = self._marks(state, view, number)
        if state in TORN:
            self._save(marks)  # its own small file: an image may have much that waits to be written
            self.now = marks
        for n in self._which(number):
            self._put(self._paths[n], f"{state} {view}", state in TORN)
        if state not in TORN:
            self._save(marks)
            self.now = marks

    def _which(self, number: int | None) -> range | tuple[int]:
        return range(len(self._paths)) if number is None else (number,)

    def _marks(self, state: str, view: int, number: int | None) -> tuple[Mark, ...]:
        return tuple(Mark(state, view) if n in self._which(number) else mark for n, mark in enumerate(self.now))

    def _put(self, path: str, text: str, warns: bool) -> None:
        try:
            if self._images.put(path, ATTRIBUTE, text) and not warns:
                self._images.sync(path)
        except OSError:
            if not warns:
                raise  # else what the state folder says counts

    def _on_image(self, path: str) -> Mark:
        try:
            return parse(self._images.get(path, ATTRIBUTE))
        except OSError:
            return Mark(UNREADABLE)

    def _load(self) -> dict[str, Mark]:
        try:
            body, crc = self._files.read(self._file).rstrip("\n").rsplit("\n", 1)
            if int(crc, 16) != zlib.crc32(body.encode()):
                raise ValueError("checksum does not fit")
            return {path: parse(text) for path, text in json.loads(body).items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, AttributeError, TypeError, RecursionError):
            return dict.fromkeys(self._paths, Mark(UNREADABLE))

    def _save(self, marks: tuple[Mark, ...]) -> None:
        body = json.dumps({path: f"{mark.state} {mark.view}" for path, mark in zip(self._paths, marks)})
        new = Path(f"{self._file}.new")
        self._files.make_folder(self._file.parent)
        self._files.write(new, f"{body}\n{zlib.crc32(body.encode()):08x}\n")
        self._files.sync(new)
        self._files.replace(new, self._file)
        self._files.sync(self._file.parent)
