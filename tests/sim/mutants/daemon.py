# SPDX-License-Identifier: GPL-3.0-or-later
"""The daemon's hold on its QEMU broken on purpose: adoption, watchdog, process note, failed operations."""

from __future__ import annotations

from plover.core import shell_policy
from plover.core.director import Director
from plover.core.leader import Leader

from ..replica import ReplicaMember
from .registry import mutant


@mutant("a daemon that adopts a VM leaves it running or stopped, as it was")
def adopted_as_it_was() -> None:
    good = Director.__init__

    def init(self, *arguments):
        good(self, *arguments)
        if isinstance(self.role, Leader):
            self.role.vm_stopped_by_us = False

    Director.__init__ = init
    ReplicaMember._adopt = lambda self, vm: setattr(self.memory, "qemu", vm)


@mutant("the watchdog is disarmed while a QEMU that spoke is being ended")
def disarmed_too_early() -> None:
    shell_policy.disarms_watchdog = lambda core, unreaped: not isinstance(core.role, Leader)


@mutant("the process note names a secondary's QEMU, so the next daemon adopts it")
def secondary_adopted() -> None:
    shell_policy.notes_holder = lambda core: True


@mutant("the core is not told that a QEMU operation failed")
def failure_not_told() -> None:
    shell_policy.failure = lambda action, error, ours: None
