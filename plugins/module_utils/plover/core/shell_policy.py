# SPDX-License-Identifier: GPL-3.0-or-later
"""The decisions of the shell around the core, without their I/O. Pure.

The daemon (``replica/``, ``witness/``, ``dataplane/tap.py``) and the simulator (``tests/sim``) both ask here. So the simulator
tests the rules that the daemon follows, and a mutant of a rule (``tests/sim/mutants``) is a mutant of the daemon's.
"""

from __future__ import annotations

from collections import deque
from enum import Enum
from typing import Generic, NamedTuple, TypeVar

from ..errors import LostWritesError
from ..ports import effects
from ..protocol import wire
from .director import Director
from .leader import RUNNING, Leader

ANNOUNCE_AT_S = (0.0, 0.05, 0.2, 0.5, 1.0)  # after the TAP is up; a switch or a client may miss one announcement
SPEAK_LOOK_S = 0.002
TAP_RETRY_S = 1.0

Vm = TypeVar("Vm")


# ---- the VM's network ----------------------------------------------------------------------------------------
def reads_tap(core: Director) -> bool:
    """Frames are read only while they can go somewhere. Before that they wait in the TAP."""
    leading = core.leading
    return bool(leading and leading.tap_up and leading.incoming.reads) or core.late.active(core)


def watches_idle(core: Director) -> bool:
    """Output waits for the next syncvm, which may begin as soon as the VM is idle."""
    leading = core.leading
    return bool(leading and leading.output_commit.agreed.urgent_since is not None and not leading.syncvm and leading.protected)


def in_time(now: float, until: float) -> bool:
    """May this frame still leave? Asked right before each frame: the daemon may have been stopped since the core released it,
    or the release takes long, and another member may lead by now. ``until``: ``Director.speak_until`` at the release."""
    return now <= until


def retries_tap(core: Director, error: str, queued: bool) -> bool:
    """``TAP_RETRY_S`` after the TAP's script failed: run it again? Not if more work for the TAP is ``queued``."""
    return bool(core.leading and core.leading.tap_up and error and not queued)


class Announce(Enum):
    NOW = "now"
    LATER = "later"  # just elected, or hung for a while: a quorum must answer first. Ask again after SPEAK_LOOK_S
    NEVER = "never"  # we do not lead any more


def announces(core: Director) -> Announce:
    """Asked at each of ``ANNOUNCE_AT_S``: tell the network that the VM is here?"""
    leading = core.leading
    if leading and leading.speaks:
        return Announce.NOW
    return Announce.LATER if leading and (leading.tap_up or leading.tap_early) else Announce.NEVER


# ---- one QEMU ------------------------------------------------------------------------------------------------
def notes_holder(core: Director) -> bool:
    """This host's QEMU leads: a daemon that restarts takes it over. A secondary's QEMU cannot be taken over."""
    return isinstance(core.role, Leader) and core.role.vm == RUNNING


class Failure(NamedTuple):
    """The event by which the core learns that an operation failed."""

    event: str
    tag: effects.Tag
    error: str


def failure(action: object, error: Exception, ours: bool) -> Failure | None:
    """None: the QEMU was given up meanwhile (no longer ``ours``), so nobody waits. A QEMU that ended during its start is not
    ours either, but the core still waits for it."""
    if not ours and not isinstance(action, effects.StartQemu):
        return None
    lost = isinstance(error, LostWritesError)
    return Failure("copy_lost" if lost else "failed", getattr(action, "tag", None), str(error))


class Operations(Generic[Vm]):
    """QEMU's operations: one at a time, in the order the core asked for them. ``unreaped``: QEMUs that are being ended."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Vm | None, object]] = deque()
        self.running: object | None = None
        self.unreaped: set[Vm] = set()

    def __len__(self) -> int:
        return len(self._waiting)

    def ask(self, vm: Vm | None, action: object) -> None:
        self._waiting.append((vm, action))

    def kill(self, vm: Vm | None, action: effects.KillQemu) -> bool:
        """The core gives ``vm`` up, and all operations on it. True: cancel the running operation too.

        Only earlier kills stay in the queue: those QEMUs must end all the same.
        """
        self._waiting = deque(item for item in self._waiting if isinstance(item[1], effects.KillQemu))
        if vm is not None:
            self.unreaped.add(vm)
            self._waiting.append((vm, action))
        return self.running is not None and not isinstance(self.running, effects.KillQemu)

    def exited(self, vm: Vm) -> None:
        """``vm`` ended by itself: its waiting operations are void, except kills and the next start."""
        kept = (effects.KillQemu, effects.StartQemu)
        self._waiting = deque(item for item in self._waiting if item[0] is not vm or isinstance(item[1], kept))

    def begin(self) -> tuple[Vm | None, object] | None:
        """The next operation; it runs until :meth:`ended`. Without a QEMU, all operations but a start are dropped."""
        while self.running is None and self._waiting:
            vm, action = self._waiting.popleft()
            if vm is not None or isinstance(action, effects.StartQemu):
                self.running = action
                return vm, action
        return None

    def ended(self) -> None:
        self.running = None

    def reaped(self, vm: Vm) -> None:
        """QEMU is gone for certain."""
        self.unreaped.discard(vm)


# ---- the watchdog --------------------------------------------------------------------------------------------
def disarms_watchdog(core: Director, unreaped: bool) -> bool:
    """It was armed before our VM could speak. Disarm it once none of our QEMUs is left that could have spoken."""
    return not isinstance(core.role, Leader) and not unreaped


def leaves_watchdog_armed(vm: object | None, unreaped: bool) -> bool:
    """The daemon ends. A QEMU that runs on still needs the watchdog: the next daemon, or the end of QEMU's unit, disarms it."""
    return vm is not None or unreaped


# ---- the witness ---------------------------------------------------------------------------------------------
def witness_hears(channel: int, message: wire.Message) -> bool:
    """Only the consensus' messages: a witness has no VM and fills nobody."""
    return channel == wire.CONTROL and not isinstance(message, (wire.JoinRequest, wire.Leave))
