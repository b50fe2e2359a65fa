# SPDX-License-Identifier: GPL-3.0-or-later
"""The leader's VM runs on before its secondary has loaded a syncvm; meanwhile its writes to the secondary's images wait. Sans-I/O.

Only after its load does the secondary keep its own disk apart from what the leader's VM writes (COLO's block replication begins a
new pair of overlays then). A write that came before would be in the disk, but not in the memory, of a VM that takes over.
So the writes go on once the secondary has loaded, or if it can never load that syncvm. If it may have loaded and nobody knows, its
images get none of them: they are detached, and copied again.
"""

from __future__ import annotations

from typing import Protocol

from ..config.settings import Config
from ..ports import effects


class Emitting(Protocol):
    config: Config

    def emit(self, *made: effects.Effect) -> None: ...


class DiskWrites:
    def __init__(self, core: Emitting) -> None:
        self._core, self._held = core, False

    def hold(self) -> None:
        """Our VM, which stands still, is to run on."""
        if self._core.config.disks:
            self._held = True
            self._core.emit(effects.HoldWrites())

    def go_on(self) -> None:
        """The secondary has loaded, or never will."""
        if self._held:
            self._held = False
            self._core.emit(effects.PassWrites())

    def abandon(self, may_load: bool) -> None:
        """The syncvm is given up, and the secondary may load it nonetheless, or never will."""
        if may_load and self._held:
            self._held = False
            self._core.emit(effects.DetachDisks())
        self.go_on()
