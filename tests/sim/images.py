# SPDX-License-Identifier: GPL-3.0-or-later
"""A host's image as its marks see it, and as it really is: the onlooker knows when it is of two moments.

The marks are the real ones, over the simulated disk; so are the moments at which the daemon sets them. What the mark on the
image itself says is lost in a power loss unless it was synced.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from plover.disks.local_images import LocalImages
from plover.disks.marks import DiskMarks

if TYPE_CHECKING:
    from .host import Host

NAMES_APART = "user.plover.copy"  # the simulator keeps names of copies itself, see Host
MERGE_S = (0.002, 0.2)


class SimAttributes:
    """The ImageFiles port of plover.disks.image_files, of one image."""

    def __init__(self) -> None:
        self.seen: dict[str, str] = {}
        self._kept: dict[str, str] = {}

    def hold(self, paths) -> None:
        pass

    def get(self, path: str, name: str) -> str:
        return self.seen.get(name, "")

    def put(self, path: str, name: str, text: str) -> bool:
        if name != NAMES_APART:
            self.seen[name] = text
        return True

    def drop(self, path: str, name: str) -> None:
        self.seen.pop(name, None)

    def sync(self, path: str) -> None:
        self._kept = dict(self.seen)

    def power_loss(self, rng: random.Random) -> None:
        if rng.random() < 0.5:
            self.seen = dict(self._kept)
        self._kept = dict(self.seen)


class Images:
    """Of one host. Each step raises OSError if the state folder takes nothing."""

    def __init__(self, host: Host) -> None:
        self._host, self.rng = host, random.Random(host.rng.getrandbits(64))
        self.attributes = SimAttributes()
        self.torn = False  # in truth
        self.new_daemon()

    def new_daemon(self) -> None:
        """It knows the marks on the disk."""
        self.marks = DiskMarks(self._host.config, self._host.disk, self.attributes)
        self.marks.read()
        self.new_qemu()

    def new_qemu(self) -> None:
        self.copy = LocalImages(self._host.config, "boot", self.marks, self.attributes)

    def boots(self, view: int, by_force: bool) -> None:
        if self.torn and not by_force:
            self._host.world.ghost.fail(f"{self._host.name} boots the VM from an image of two moments")
        self.torn = False  # the operator's word
        self.new_qemu()
        self.copy.booted(view)

    def copy_begins(self, view: int) -> None:
        self.copy.torn(view)
        self.torn = True

    def copied(self, view: int) -> None:
        """All writes are on the disk."""
        self._host.unsynced.clear()
        self.torn = False
        self.copy.write(view)

    def promoted(self, view: int) -> None:
        self.copy.promoted(view)
        self.torn = True

    def merged(self, view: int) -> None:
        self._host.unsynced.clear()
        self.torn = False
        self.copy.merged(view)

    def power_loss(self) -> None:
        self.attributes.power_loss(self.rng)
