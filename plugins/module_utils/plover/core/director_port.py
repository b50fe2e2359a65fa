# SPDX-License-Identifier: GPL-3.0-or-later
"""What the roles and the other parts of the director ask of it.

They import this and never the director, so they can be read and tested without it.
"""

from __future__ import annotations

from typing import Any, Protocol

from ..config.settings import Config
from ..consensus.consensus import Consensus
from ..ports import effects
from ..ports.comparison import Comparison
from ..protocol import wire
from ..syncvm.figures import Figures
from .disk_marks import Mark
from .drill import Drill
from .event_log import EventLog
from .guest_clock import GuestClock
from .late_input import LateInput
from .rest import Rest
from .scrub import Scrub


class DirectorPort(Protocol):
    config: Config
    consensus: Consensus
    memory: effects.Memory
    comparison: Comparison
    event_log: EventLog
    late: LateInput
    drills: Drill
    scrub: Scrub
    rest: Rest
    guest_clock: GuestClock
    began: float  # when this daemon began
    now: float  # the time of the present event
    facts: dict[str, Any]  # what must be equal on both replicas, as QEMU and the host tell it
    marks: tuple[Mark, ...]  # of this host's images
    cold: bool  # the operator asked for a cold start here, and this host is not elected yet
    copies_failed: int  # copies to this host's images that failed, in a row
    unsent_bytes: int  # of output that was released here, and was still here when this replica ceased to lead
    fill_pages_mismatching: int  # pages found different at the end of initial syncs, since this daemon began
    stopped_for: effects.Tag | None  # tag of the last StopVm that no ContVm has followed

    @property
    def leading(self) -> object | None:
        """The leader, if this replica leads."""

    @property
    def holds_state(self) -> bool:
        """This replica's QEMU has the VM's state."""

    def emit(self, *actions: object) -> None:
        """Have the shell carry these effects out next."""

    def send(self, to: str, message: wire.Message) -> None:
        """Send a message on the control channel."""

    def report(self, text: str) -> None:
        """Write one sentence to the log."""

    def next_syncvm_number(self) -> int: ...

    def record_figures(self, figures: Figures) -> None:
        """Keep the figures of a syncvm that ended."""

    def note_holder(self, holds: bool) -> None:
        """This replica's QEMU has (or lost) the VM's state."""

    def become_follower(self, why: str, pause_s: float = 0.0) -> None:
        """Start over, without the VM's state; the empty QEMU starts after ``pause_s``."""

    def power_off(self, because: str) -> None:
        """End our QEMU and lead no more: the VM is off, and that is recorded."""

    def give_up_qemu(self, why: str) -> None:
        """End our QEMU; go on as if it had died."""
