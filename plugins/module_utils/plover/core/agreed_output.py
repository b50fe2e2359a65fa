# SPDX-License-Identifier: GPL-3.0-or-later
"""Held output of the leader's VM: what may leave by agreement, and when it makes a syncvm due. Pure.

With ``output_release: agreed``, output that the secondary's VM has said, too, leaves without a syncvm (core/agreement.py). Output
that cannot be compared is *urgent*: only a syncvm lets it go. So is other output that the secondary's VM has not said within its
usual lag (core/patience.py). A difference between the two VMs makes a syncvm due at once.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from ..config.settings import AGREED, Config
from ..errors import InvariantViolation, WireError
from ..ports import effects
from ..ports.comparison import Agreement
from ..protocol import sayings, wire
from ..protocol.frames import pieces
from ..syncvm.pace import Pace
from .agreement import FOLLOWS
from .guard import Guard
from .patience import Patience

LATE = "late"  # the secondary's VM has not said it in time


class AgreedOutput:
    def __init__(self, config: Config, guard: Guard, agreement: Agreement) -> None:
        self._guard, self._agreement = guard, agreement
        self._wanted = config.output_release == AGREED and not config.checkpoints
        self._patience = Patience(config.latency_ms_target / 1000)
        self._syncvm: tuple[int, int] | None = None  # view, number: both VMs run on from it, and the secondary tells what its VM says
        self._begun = 0  # the number of the last syncvm
        self._urgent_since: float | None = None
        self.says = False  # this secondary can tell what its VM says; one of an earlier version cannot
        self.agreed_frames = self.waited_frames = 0
        self.waits: Counter[str] = Counter()  # why output had to wait for a syncvm
        self.differences: Counter[str] = Counter()

    # ---- output --------------------------------------------------------------------------------------
    def hold(self, frames: bytes, now: float, beside_bytes: int) -> None:
        """``beside_bytes``: of output that was released and has not left yet."""
        if self._syncvm is None:
            self._guard.hold(frames, now, beside_bytes)
            return
        numbers = self._guard.hold_each(pieces(frames), now, beside_bytes)
        for why in self._agreement.hold_run(numbers, frames):
            self._urge(why, now)

    def leaving(self, view: int, now: float) -> list[bytes]:
        """The output that both VMs have said by now."""
        numbers = self._agreement.leaving()
        if not numbers:
            return []
        if self._syncvm is None or self._syncvm[0] != view:
            raise InvariantViolation(f"output was to leave in view {view} as what both VMs have said since syncvm {self._syncvm}")
        taken = [self._guard.take(number) for number in numbers]
        self._patience.agreed(min(since for since, _output in taken), now)  # the longest lag of all
        self.agreed_frames += len(taken)
        return [output for _since, output in taken]

    # ---- syncvms --------------------------------------------------------------------------------------
    def begin(self, view: int, number: int) -> list[effects.Effect]:
        """Our VM stands still for a syncvm, which all output held by now waits for."""
        if self._syncvm is None:
            self._agreement.void()  # it does not know what our VM has said since the last one
        else:
            self.waited_frames += self._guard.unmarked_count
            self.differences.update(self._agreement.differences)
        self._agreement.begin()
        self._urgent_since, self._syncvm, self._begun = None, None, number
        if not (self._wanted and self.says):
            return []
        self._syncvm = (view, number)
        return [effects.SendData(wire.Said(view, number))]

    def staged(self) -> None:
        """The secondary has that syncvm. What it says from now on comes from its state."""
        if self._syncvm is not None:
            self._agreement.open()

    def loaded(self, now: float) -> None:
        """The secondary's VM runs on from it."""
        self._patience.loaded(now)

    def void(self) -> None:
        """Another view, or the secondary is gone: what it has said counts no more. The marks are gone, too."""
        self._syncvm, self._begun = None, 0
        self._agreement.void()

    def heard(self, m: wire.Said) -> None:
        """What the secondary's VM has said since a syncvm of our view. Raises WireError."""
        if self._syncvm is None or m.number < self._begun:
            sayings.unpack(m.payload)  # nonsense is refused, late or not
            return
        if m.number > self._begun or not self._agreement.is_open:
            raise WireError(f"what a VM has said since syncvm {m.number}, which it does not have")
        self._agreement.hear_packed(m.payload)

    # ---- when a syncvm is due -------------------------------------------------------------------------
    def _urge(self, why: str, since: float) -> None:
        if why != FOLLOWS:
            self.waits[why] += 1
        if self._urgent_since is None:
            self._urgent_since = since

    @property
    def urgent_since(self) -> float | None:
        """Since when the oldest output that needs a syncvm has been held; None: there is none."""
        return self._guard.oldest_unmarked_s if self._syncvm is None else self._urgent_since

    def makes_due(self, now: float, pace: Pace, idle: bool) -> bool:
        """Is a syncvm due? ``idle``: our VM is idle at this moment."""
        oldest = self._guard.oldest_unmarked_s
        if self._syncvm is not None and oldest is not None:
            if self._agreement.differences:
                return True
            if self._urgent_since is None and self._patience.over(oldest, now):
                self._patience.ran_out()
                self._urge(LATE, oldest)
        since = self.urgent_since
        return pace.due(None if since is None else now - since, idle)

    def describe(self) -> dict[str, Any]:
        """For the status. ``agreed_on``: output may leave without a syncvm now."""
        return {
            "agreed_on": self._syncvm is not None,
            "agreed_frames": self.agreed_frames,
            "waited_frames": self.waited_frames,
            "differences": dict(self.differences),
            "waits": dict(self.waits),
            "patience_ms": round(1000 * self._patience.limit_s, 1),
        }
