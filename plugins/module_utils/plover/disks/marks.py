# SPDX-License-Identifier: GPL-3.0-or-later
"""The marks of this host's images (core/disk_marks.py), kept durably.

Each mark is kept twice, in the state folder and on the image itself (files only), and the worse one counts: the state folder
may get lost, and an image may be moved.
"""

from __future__ import annotations

import json
import threading
import zlib
from pathlib import Path

from ..config.settings import Config
from ..core.disk_marks import INCOMPLETE, LIVE, MERGING, MISSED, TORN, UNREADABLE, WHOLE, Mark, parse, worse
from ..errors import LostWritesError
from ..host.store import Files
from .image_files import ImageFiles

ATTRIBUTE = "user.plover.mark"
FILE = "disks.json"


class DiskMarks:
    """One for each daemon. Its methods block until the disk has the marks."""

    def __init__(self, config: Config, files: Files | None = None, images: ImageFiles | None = None) -> None:
        self._paths = [disk.path for disk in config.disk_list]
        self._file = config.state_path / FILE
        self._files, self._images = files or Files(), images or ImageFiles()
        self._lock = threading.Lock()
        self.now: tuple[Mark, ...] = tuple(Mark() for _path in self._paths)

    def read(self) -> tuple[Mark, ...]:
        """Read the marks from the disk into :attr:`now`."""
        with self._lock:
            noted = self._load()
            self.now = tuple(worse(self._on_image(path), noted.get(path, Mark())) for path in self._paths)
            return self.now

    def set(self, state: str, view: int, number: int | None = None) -> None:
        """Mark all images, or that of one disk; the mark is durable when this returns.

        A mark that clears means: all writes are on the disk. Raises OSError: then the action that the mark was to warn of
        must not begin, and a torn image stays torn. Raises LostWritesError if an image cannot be synced: another try would
        prove nothing.
        """
        with self._lock:
            self._set(state, view, number)

    def missed(self, view: int, number: int | None = None) -> None:
        """A write is lost that the guest believes done. Only a whole copy of another host's image mends that.

        This daemon obeys the mark even if the disk cannot take it.
        """
        with self._lock:
            self.now = self._marks(MISSED, view, number)
            self._set(MISSED, view, number)

    def merged(self, view: int) -> bool:
        """The overlays are merged into the images, on the disk. False if an image lacks a write: it stays marked so."""
        return self._go_on(MERGING, LIVE, view)

    def filled(self, view: int) -> bool:
        """The copy is complete and on the disk."""
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
            self._save(marks)  # in its own small file first: an image may have a lot of data waiting to be written
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
            carried = self._images.put(path, ATTRIBUTE, text)
        except OSError:
            if not warns:
                raise
            return  # the state folder's mark counts
        if carried and not warns:
            try:
                self._images.sync(path)  # not only the mark: the VM may write to the image by now
            except OSError as error:
                raise LostWritesError(f"some writes to this host's disks are lost: {error}") from error

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
