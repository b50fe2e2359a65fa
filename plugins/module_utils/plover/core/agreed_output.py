# SPDX-License-Identifier: GPL-3.0-or-later
"""Held output of the leader's VM, and when it makes a syncvm due. Pure.

With ``output_release: agreed``, output that the secondary's VM has said, too, leaves without a syncvm (core/agreement.py). Output
that cannot be compared is *urgent*: only a syncvm lets it go. So is all output once the two VMs differ. Other output becomes
urgent if the secondary's VM has not said it within its usual lag.
"""

from __future__ import annotations

from ..config.settings import AGREED, Config
from ..errors import WireError
from ..ports import effects
from ..protocol import sayings, wire
from ..protocol.frames import split, wrap
from ..syncvm.pace import Pace
from .agreement import Agreement
from .guard import Guard

LAG_S_MIN = 0.002
LAG_FADES = 0.98  # of the longest lag, with each frame that is agreed on
PATIENCE = 2.0  # usual lags


class AgreedOutput:
    def __init__(self, config: Config, guard: Guard) -> None:
        self._guard, self._agreement = guard, Agreement()
        self._wanted = config.output_release == AGREED and not config.checkpoints
        self._target_s = config.latency_ms_target / 1000
        self._lag_s = self._target_s
        self._syncvm: tuple[int, int] | None = None  # view, number: both VMs have run on from it
        self.says = False  # the secondary tells what its VM says
        self.urgent_since: float | None = None
        self.agreed_bytes = 0

    def hold(self, frames: bytes, now: float, beside_bytes: int) -> None:
        """``beside_bytes``: of output that was released and has not left yet."""
        if self._syncvm is None:
            if self._guard.hold(frames, now, beside_bytes):
                self._urge(now)
            return
        for frame in map(bytes, split(frames)):
            number = self._guard.hold(wrap(frame), now, beside_bytes)
            if number and not self._agreement.hold(number, frame):
                self._urge(now)

    def _urge(self, since: float) -> None:
        if self.urgent_since is None:
            self.urgent_since = since

    def begin(self, view: int, number: int) -> list[effects.Effect]:
        """Our VM stands still for a syncvm, and its output has a mark."""
        self.urgent_since, self._syncvm = None, None
        self._agreement.begin()
        if not (self._wanted and self.says):
            return []
        self._syncvm = (view, number)
        return [effects.SendData(wire.Said(view, number))]

    def staged(self) -> None:
        """The secondary has that syncvm. What it says from now on comes from its state."""
        self._agreement.open = self._syncvm is not None

    def void(self) -> None:
        """The mark is gone, and so is what the secondary has said."""
        self._syncvm = None
        self._agreement.void()
        self.urgent_since = 0.0 if self._guard.unmarked_bytes else None

    def heard(self, m: wire.Said) -> None:
        """Raises WireError."""
        told = sayings.unpack(m.payload)
        if m.view and (m.view, m.number) == self._syncvm and told:
            if not self._agreement.open:
                raise WireError(f"what a VM says since syncvm {m.number}, which is not staged there")
            self._agreement.hear(told)

    def leaving(self, now: float) -> list[bytes]:
        """The output that both VMs have said by now."""
        out = []
        for number in self._agreement.leaving():
            since, output = self._guard.take(number)
            out.append(output)
            self.agreed_bytes += len(output)
            self._lag_s = max(LAG_S_MIN, now - since, LAG_FADES * self._lag_s)
        if self._agreement.differs and self._guard.unmarked_bytes:
            self._urge(self._guard.oldest_unmarked_s or now)
        return out

    def makes_due(self, now: float, pace: Pace, idle: bool) -> bool:
        """Is a syncvm due? ``idle``: our VM is idle at this moment."""
        oldest = self._guard.oldest_unmarked_s
        if oldest is not None and now - oldest > min(self._target_s, PATIENCE * self._lag_s):
            self._urge(oldest)
        since = self.urgent_since
        return pace.due(None if since is None else now - since, idle)
