# SPDX-License-Identifier: GPL-3.0-or-later
"""One simulated host, without its daemon."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from plover.config.settings import Config
from plover.host.store import FIRST_BOOT

from .blocks import BLOCKS, TORN
from .disk import SimDisk
from .guest import Qemu
from .images import Images

if TYPE_CHECKING:
    from .world import World

RESTART_S = 0.15  # systemd's RestartSec, shortened


class Host:
    """State that survives a daemon: the disk, the clock, the QEMU in its own unit, the process note."""

    def __init__(self, world: World, name: str, config: Config) -> None:
        self.world, self.name, self.config = world, name, config
        self.rng = random.Random(world.rng.getrandbits(64))
        self.disk = SimDisk(self.rng)
        self.disk.mark(FIRST_BOOT)
        self.clock_offset_s, self.clock_rate = self.rng.uniform(0, 1000), 1 + self.rng.uniform(-1e-4, 1e-4)
        self.qemu: Qemu | None = None
        self.holder: Qemu | None = None
        self.image = [0] * BLOCKS
        self.unsynced: set[int] = set()  # blocks of the image that a power loss may take
        # Which copies of a leader's disk the image is: on the disk, and as long as there is no power loss.
        self.copies: list[str] = []
        self.copies_begun: list[str] = []
        self.loses_writes = False
        self.images = Images(self)
        self.image_fails = self.merge_fails = False
        self.on = True
        self.frozen = 0

    def lose_unsynced(self) -> None:
        """In a power loss."""
        for block in self.unsynced:
            if self.rng.random() < 0.5:
                self.image[block] = TORN
        self.unsynced.clear()
        self.images.power_loss()
        self.copies_begun = []

    def clock(self) -> float:
        return self.clock_offset_s + self.clock_rate * self.world.loop.now
