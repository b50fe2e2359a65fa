# SPDX-License-Identifier: GPL-3.0-or-later
"""This host's images: which copies of the leader's disks they are, and what they are fit for.

A copy's name is written on each image (extended attribute) and stays there only while it is true. The secondary makes one
name for each QEMU. While the copy is under way, its name carries this boot's id: a write that QEMU has confirmed outlives
QEMU, but not a power loss. Once all data are on the disk, the name stands alone. The marks of core/disk_marks.py say at each
step what the images are fit for.
"""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

from ..config.settings import Config
from ..core.disk_marks import INCOMPLETE, LIVE, MERGING, UNMARKED, WHOLE
from ..errors import LostWritesError
from .image_files import ImageFiles
from .marks import DiskMarks

ATTRIBUTE = "user.plover.copy"  # on the file: a file put in its place has none
NAMES_MAX = 4  # a secondary that failed to join a few times in a row still knows its copies
COPIES = (UNMARKED, WHOLE, INCOMPLETE)  # marks of an image that may be a copy
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class LocalImages:
    """One for each QEMU. ``name``: the unique name of the copy that its initial sync makes."""

    def __init__(self, config: Config, boot: str = "", marks: DiskMarks | None = None, images: ImageFiles | None = None) -> None:
        self._disks = config.disk_list
        self._boot = boot or BOOT_ID.read_text().strip()
        self._marks, self._images = marks or DiskMarks(config), images or ImageFiles()
        if marks is None:
            self._marks.read()
        self._lock, self._over = threading.Lock(), False
        self.name = uuid.uuid4().hex

    def hold(self, view: int) -> None:
        """Notice every lost write from now on, also one already reported to another process. Raises LostWritesError if a
        write of the QEMU before this one is lost."""
        try:
            self._images.hold(disk.path for disk in self._disks)
        except OSError as error:
            self.spoiled(view)
            raise LostWritesError(f"a write of the QEMU before this one is lost: {error}") from error

    def read(self) -> list[str]:
        """Names of the copies that all images hold."""
        names = [
            [name for name, _at, boot in (word.partition("@") for word in self._words(disk.path)) if boot in ("", self._boot)]
            for disk in self._disks
        ]
        return [name for name in names[0] if all(name in others for others in names)] if names else []

    def _words(self, path: str) -> list[str]:
        if any(mark.state not in COPIES for mark in self._marks.now):
            return []
        return self._images.get(path, ATTRIBUTE).split()

    def begin(self, view: int) -> list[str]:
        """A copy may begin from now on. Returns the names of :meth:`read`.

        An image that cannot carry a name (a block device) has none. A qcow2 image gets its name only at the end of the copy:
        QEMU keeps parts of it in memory, and they die with QEMU.
        """
        self.hold(view)
        held = self.read()
        for disk in self._disks:
            words = self._words(disk.path) + ([f"{self.name}@{self._boot}"] if disk.format == "raw" else [])
            self._images.put(disk.path, ATTRIBUTE, " ".join(words[-NAMES_MAX:]))
        return held

    def torn(self, view: int) -> None:
        """The copy begins with the next write: until it is complete, nobody may boot these images."""
        self._marks.set(INCOMPLETE, view)

    def write(self, view: int) -> bool:
        """The copy is complete: sync the images, then name and mark them, so that a power loss takes nothing.

        False if an image cannot carry a name. Raises LostWritesError: a lost write stays lost even if the next sync succeeds,
        so the images have lost all names and are marked. Raises OSError if they cannot be named or marked.
        """
        with self._spoiling(view):
            self._sync()
            with self._lock:
                if self._over:
                    return True
                carried = [self._images.put(disk.path, ATTRIBUTE, self.name) for disk in self._disks]
                self._marks.filled(view)
                return all(carried)

    def _sync(self) -> None:
        try:
            for disk in self._disks:
                self._images.sync(disk.path)
        except OSError as error:
            raise LostWritesError(f"some writes to this host's disks are lost: {error}") from error

    @contextlib.contextmanager
    def _spoiling(self, view: int) -> Iterator[None]:
        """Linux reports a lost write only once, so an error of a sync in here is noted at once."""
        try:
            yield
        except LostWritesError:
            self.spoiled(view)
            raise

    def spoiled(self, view: int) -> None:
        """A write to the images is lost."""
        with self._lock, contextlib.suppress(OSError):  # the state folder fails as well; this daemon still knows it
            self._drop_names()
            self._marks.missed(view)

    def booted(self, view: int) -> None:
        """Our own VM writes to the images from now on. Raises LostWritesError or OSError."""
        self.hold(view)
        with self._spoiling(view), self._lock:
            self._over = True
            self._drop_names()
            self._marks.set(LIVE, view)

    def promoted(self, view: int) -> None:
        """Our own VM goes on, and QEMU merges the overlays into the images. Raises OSError."""
        with self._lock:
            self._over = True
            if not any(mark.torn and mark.state != INCOMPLETE for mark in self._marks.now):
                self._marks.set(MERGING, view)  # names no longer count, so nothing need wait for the images
            self._drop_names()

    def merged(self, view: int) -> bool:
        """QEMU has written the overlays to the images and flushed them. False if an image lacked a write before.

        Raises LostWritesError if a write is lost. Raises OSError if the images cannot be marked now.
        """
        with self._spoiling(view):
            self._sync()
            return self._marks.merged(view)

    def save_replicated(self, view: int) -> None:
        """Sync the leader's writes to the images, when a secondary is promoted. Raises LostWritesError.

        If QEMU's own merge ends with an error, one cannot tell whether a write or a flush failed. Data of a failed write are
        still in the overlays and are merged again; the leader's writes are not. Once a flush of a buffered image has failed,
        QEMU fails every later one, so buffered images need no sync of ours.
        """
        if any(disk.cache == "none" for disk in self._disks):
            with self._spoiling(view):
                self._sync()

    def _drop_names(self) -> None:
        for disk in self._disks:
            with contextlib.suppress(OSError):  # the mark says that they do not count
                self._images.drop(disk.path, ATTRIBUTE)
