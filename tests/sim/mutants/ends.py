# SPDX-License-Identifier: GPL-3.0-or-later
"""What becomes of a guest that ends, broken on purpose."""

from __future__ import annotations

from plover.core import follower
from plover.core.crash import Crash
from plover.core.follower import Follower

from .registry import mutant


@mutant("the secondary does not see that it has loaded a guest that had panicked")
def panic_not_loaded() -> None:
    follower.panicked_in = lambda state: False


@mutant("a load does not mend a secondary's guest that had panicked alone")
def panic_outlives_load() -> None:
    good = Follower.colo_loaded

    def colo_loaded(self):
        before = self.panicked
        good(self)
        self.panicked = self.panicked or before

    Follower.colo_loaded = colo_loaded


@mutant("a guest that has panicked is reset in the middle of a syncvm")
def reset_within_syncvm() -> None:
    good = Crash.tick

    def tick(self):
        syncvm, self._leader.syncvm = self._leader.syncvm, None
        try:
            good(self)
        finally:
            self._leader.syncvm = self._leader.syncvm or syncvm

    Crash.tick = tick


@mutant("a daemon that takes over is not told that the guest had ended")
def end_not_inherited() -> None:
    Follower.will_be_off = Follower.will_have_panicked = property(lambda self: False)
