# SPDX-License-Identifier: GPL-3.0-or-later
"""Which copies of the leader's disks this host's images are: names on each image itself, there only while they are true.

A copy's name is made by the secondary's side, one for each QEMU. While the copy is under way its name is on the image with
this boot's id behind it: a write that QEMU has confirmed outlives QEMU, but not a power loss. Once all is on the disk, the
name stands alone. What the images are fit for at each of these steps is marked by core/disk_marks.py.
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

ATTRIBUTE = "user.plover.copy"  # on the file: another file that is put in its place has none
NAMES_MAX = 4  # a secondary that could not join a few times in a row still knows what it had
COPIES = (UNMARKED, WHOLE, INCOMPLETE)  # marks of an image that may be a copy at all
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class DiskCopy:
    """One for each QEMU. ``name``: of the copy that its fill makes; no other has it."""

    def __init__(self, config: Config, boot: str = "", marks: DiskMarks | None = None, images: ImageFiles | None = None) -> None:
        self._disks = config.disk_list
        self._boot = boot or BOOT_ID.read_text().strip()
        self._marks, self._images = marks or DiskMarks(config), images or ImageFiles()
        if marks is None:
            self._marks.read()
        self._lock, self._over = threading.Lock(), False
        self.name = uuid.uuid4().hex

    def hold(self, view: int) -> None:
        """From now on no lost write is missed, whoever else asks for it. Raises LostWritesError if one was, under the QEMU
        before this one."""
        try:
            self._images.hold(disk.path for disk in self._disks)
        except OSError as error:
            self.spoiled(view)
            raise LostWritesError(f"something that was written to the disks before this QEMU is lost: {error}") from error

    def read(self) -> list[str]:
        """Names of the copies that all images are."""
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
        """A copy may begin from now on. Returns what :meth:`read` does.

        An image that cannot carry a name (a block device) has none. One of qcow2 gets this one only at its end: what QEMU
        keeps of it in memory dies with QEMU.
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
        """The images are the copy: they are on the disk first, so a power loss takes nothing of them.

        False if one cannot carry a name. Raises LostWritesError: what was lost of the images stays lost, also where the next
        try succeeds, so they have lost all names, and are marked. Raises OSError if they cannot be named or marked.
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
            raise LostWritesError(f"what was written to this host's disks is lost in part: {error}") from error

    @contextlib.contextmanager
    def _spoiling(self, view: int) -> Iterator[None]:
        """A sync that failed in here was the only one to tell of it."""
        try:
            yield
        except LostWritesError:
            self.spoiled(view)
            raise

    def spoiled(self, view: int) -> None:
        """Something that was written to the images is lost."""
        with self._lock, contextlib.suppress(OSError):  # the state folder fails as well; this daemon knows it all the same
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
                self._marks.set(MERGING, view)  # so names do not count any more, and nothing need wait for the images
            self._drop_names()

    def merged(self, view: int) -> bool:
        """QEMU has written the overlays to the images and flushed them. False if they missed a write before.

        Raises LostWritesError: some of it is lost. Raises OSError if it cannot be marked now.
        """
        with self._spoiling(view):
            self._sync()
            return self._marks.merged(view)

    def save_replicated(self, view: int) -> None:
        """What the leader wrote to the images is on the disk when this returns. Raises LostWritesError.

        For a secondary that is promoted. Of QEMU's own merge one cannot tell whether a write or a flush ended it. A write's data
        are in the overlays, and merged again; what the leader wrote is not. QEMU's buffered images fail each flush after
        the first, so they need no flush of ours.
        """
        if any(disk.cache == "none" for disk in self._disks):
            with self._spoiling(view):
                self._sync()

    def _drop_names(self) -> None:
        for disk in self._disks:
            with contextlib.suppress(OSError):  # the mark says that they do not count
                self._images.drop(disk.path, ATTRIBUTE)
