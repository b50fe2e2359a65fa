# SPDX-License-Identifier: GPL-3.0-or-later
"""The guest panics, and tells QEMU so by a pvpanic device; the setting on_crash says what follows. Sans-I/O.

QEMU only tells us (its option -action panic=none): the VM runs on, and whether it runs stays our decision alone. The leader's VM is
the truth. A secondary's guest that panics alone is mended by its next load.

A panicked guest that is loaded panics no more. So the secondary looks into each device state that it loads: QEMU marks a CPU on
which the guest has panicked, until it is reset. If it takes over, it knows, and follows on_crash itself.

The guest is reset or stopped between two syncvms, so no syncvm takes pages from before and devices from after it.
"""

from __future__ import annotations

from typing import Protocol

from ..config.panics import RESTART, STOP
from ..ports import effects
from .director_port import DirectorPort
from .restarts import TOO_MANY, Restarts

WHY = "the guest has panicked"
STOPPED = f"{WHY}, and on_crash is stop"
MARK = b"cpu_common/crash_occurred"  # name of a part of a CPU's state that is there after a panic only (QEMU cpu-target.c)


def panicked_in(state: effects.Buffer) -> bool:
    """A device state, or a stream for an initial sync, of a guest that had panicked."""
    return MARK in bytes(state)


class Filling(Protocol):
    @property
    def stops_input(self) -> bool:
        """The leader's VM is about to stand still, or does."""


class Crashing(Protocol):
    """What a panic asks of its leader."""

    active: bool
    vm_stopped_by_us: bool

    @property
    def syncvm(self) -> object | None: ...

    @property
    def fill(self) -> Filling | None: ...

    @property
    def serving(self) -> bool: ...


class Switch(Protocol):
    """What it asks of core/power.py."""

    off: bool
    restarts: Restarts

    def stop(self, why: str) -> None: ...


class Crash:
    def __init__(self, core: DirectorPort, leader: Crashing, power: Switch) -> None:
        self._core, self._leader, self._power = core, leader, power
        self.since: float | None = None  # the guest has panicked, and was not reset since then
        self.follows = ""  # what comes of it, for the operator
        self._due = False  # on_crash has still to be followed
        self._all_know = True  # all members run a version that can record "off"

    # ---- events -------------------------------------------------------------------------------------
    def panicked(self, all_know: bool = True) -> None:
        """Our guest has panicked. Told again when a member has told what it knows."""
        self._all_know = all_know
        if self.since is None:
            self._begin()
        self.tick()

    def _begin(self) -> None:
        core, wanted = self._core, self._core.config.on_crash
        self.since, self._due, self.follows = core.now, wanted in (RESTART, STOP), f"on_crash is {wanted}"
        if wanted == RESTART and not self._power.restarts.allowed(core.now):
            self._due, self.follows = False, f"kept as it is, as {TOO_MANY}"
        core.report(f"{WHY}; {self.follows}")
        core.emit(*core.event_log.panicked(f"{WHY}; {self.follows}"))

    def inherit(self, panicked: bool, all_know: bool = True) -> None:
        """What the follower knew of the VM that we take over."""
        if panicked:
            self.panicked(all_know)

    def guest_reset(self) -> None:
        """The guest has reset itself, or the operator did: it boots again."""
        self.since, self._due = None, self._due and self._core.config.on_crash == STOP

    # ---- what is due --------------------------------------------------------------------------------
    @property
    def due(self) -> bool:
        """Our guest is to be reset or stopped as soon as no syncvm is under way. "Off" is for members that can record it."""
        return self._due and (self._all_know or self._core.config.on_crash == RESTART)

    def tick(self) -> None:
        leader = self._leader
        if not (self.due and leader.active and leader.serving):
            return
        busy = leader.syncvm is not None or (leader.fill is not None and leader.fill.stops_input)
        if self._power.off or busy or leader.vm_stopped_by_us:
            return
        self._due = False
        if self._core.config.on_crash == RESTART:
            self.since = None
            self._power.restarts.note(self._core.now)
            self._core.emit(effects.ResetGuest(), *self._core.event_log.restarted(f"{WHY}, and on_crash is restart"))
        else:
            self._power.stop(STOPPED)
