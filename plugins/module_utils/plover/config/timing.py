# SPDX-License-Identifier: GPL-3.0-or-later
"""How long members wait for each other, even while their settings differ. Pure; seconds.

Settings differ while a changed failover_budget_ms goes from member to member. Then a healthy leader with slow heartbeats must
not look dead to a member with a short detection time, and a leader that was hung must not count on a longer detection time
than the other members have. So each Hello tells its member's timing (links/hello.py). If a member tells none, we assume ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ..errors import WireError
from .budget import HEARTBEATS_MIN
from .settings import SETTINGS, Config

TOLD = ("detection_ms", "heartbeat_ms", "election_ms")


class Timing(NamedTuple):
    """``detection``: silence of the leader; ``heartbeat``: its interval; ``election``: one try."""

    detection: float
    heartbeat: float
    election: float = 0.15

    @classmethod
    def of(cls, config: Config) -> Timing:
        return cls(*(config.values[key] / 1000 for key in TOLD))

    @classmethod
    def told(cls, values: Mapping[str, object]) -> Timing | None:
        """The timing in a Hello; None: an older member tells none. Raises WireError."""
        if not any(key in values for key in TOLD):
            return None
        seconds = []
        for key in TOLD:
            value, row = values.get(key), SETTINGS[key]
            if not isinstance(value, int) or isinstance(value, bool) or not row.in_range(value):
                raise WireError(f"malformed Hello: '{key}' must be a whole number from {row.low} to {row.high}")
            seconds.append(value / 1000)
        return cls(*seconds)

    def __str__(self) -> str:
        return ", ".join(f"{key} {1000 * value:.0f}" for key, value in zip(TOLD, self))


class Timings:
    """Our timing and those that other members told."""

    def __init__(self, ours: Timing) -> None:
        self.ours = ours
        self._others: dict[str, Timing] = {}
        self._stands: set[str] = set()
        self.shortest_detection = ours.detection  # a member that heard the leader more recently does not vote against it
        self.standing_detection = ours.detection  # the same of members that may stand: a liar that may not has no say in it

    def told(self, member: str, timing: Timing, stands: bool = True) -> None:
        """``stands``: it may stand for election."""
        self._others[member] = timing
        if stands:
            self._stands.add(member)
        self.shortest_detection = min(one.detection for one in (self.ours, *self._others.values()))
        self.standing_detection = min(one.detection for one in (self.ours, *map(self._others.__getitem__, self._stands)))

    def patience(self, member: str | None) -> float:
        """Silence after which ``member`` counts as lost: our detection, but at least HEARTBEATS_MIN of its heartbeats."""
        other = self._others.get(member, self.ours) if member else self.ours
        return max(self.ours.detection, HEARTBEATS_MIN * other.heartbeat)
