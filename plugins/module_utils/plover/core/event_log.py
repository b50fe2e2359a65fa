# SPDX-License-Identifier: GPL-3.0-or-later
"""The event log: who led which view and why, and how long each mode lasted. Pure.

It watches and never decides. Its methods return ``Happened`` effects; the shell adds the wall clock and keeps them
(host/history.py). Facts by kind:
    view     view, leader, cause (one of the words below)
    serving  view, outage_ms: from the leader's silence (or the stop of its VM) until our TAP is up and its port forwards;
             None if unknown
    mode     mode, before (the mode that ended; None at the start), before_s (how long it lasted)
    guest    what: the guest has PANICKED, or is RESTARTED as a setting says
"""

from __future__ import annotations

from ..consensus.sender import ERA
from ..ports.effects import Happened

FIRST_BOOT, COLD_START, FAILOVER, SWITCHOVER = "first boot", "cold start", "failover", "switchover"
FORCED, RE_ELECTED, HANDED_OVER, FOUND = "forced", "re-elected", "handed over", "found leading"
PANICKED, RESTARTED = "panicked", "restarted"
HANDOVER_S_MAX = 5.0  # an election later than this after a handover has another cause


class EventLog:
    def __init__(self, now: float) -> None:
        self.mode: str | None = None
        self.mode_since, self.reason = now, ""
        self.view = 0  # of the last election noted
        self.leader: str | None = None
        self.cause = self.told = ""  # its cause, and one sentence about it
        self._handover: tuple[str, str, float] | None = None  # cause, why, when
        self.outage_from: float | None = None
        self.outage_ms: float | None = None  # of the last time that our VM came to be served
        self._served_view = 0
        self.views: dict[str, int] = {}  # how often a view began since this daemon did, by cause

    def handover(self, now: float, cause: str, why: str) -> None:
        """The leader hands over, on purpose or because it must."""
        self._handover = (cause, why, now)

    def interrupted(self, at: float | None) -> None:
        """Clients have had no answer since ``at``, as far as we know; None if nobody was served."""
        self.outage_from = at

    def handed_over(self, now: float) -> tuple[str, str] | None:
        """(cause, why) of a handover under way."""
        if self._handover is None:
            return None
        cause, why, began = self._handover
        return (cause, why) if now - began < HANDOVER_S_MAX else None

    def led_by(self, view: int, leader: str, cause: str, why: str) -> list[Happened]:
        """``leader`` leads ``view``. Noted once."""
        if (view, leader) == (self.view, self.leader):
            return []
        self.view, self.leader, self._handover = view, leader, None
        self.cause = cause
        self.views[cause] = self.views.get(cause, 0) + 1
        self.told = f"{cause} in view {view}" + (f": {why}" if why else "")
        return [Happened("view", why, {"view": view, "leader": leader, "cause": cause})]

    def follows(self, now: float, view: int, leader: str, transfer: bool) -> list[Happened]:
        """Another member leads. The cause is concluded from what this member saw."""
        handed = self.handed_over(now)
        if view % ERA == 0:
            cause, why = FORCED, "the operator made it lead"
        elif handed:
            cause, why = handed
        elif self.leader is None:
            cause, why = FOUND, "this daemon started or came back"
        elif transfer:
            cause, why = HANDED_OVER, f"by {self.leader}"
        elif leader == self.leader:
            cause, why = RE_ELECTED, "its view had ended"
        else:
            cause, why = FAILOVER, f"{self.leader} was lost"
        return self.led_by(view, leader, cause, why)

    def serving(self, now: float, view: int, waited: str = "") -> list[Happened]:
        """Our VM can be reached; ``waited``: what for, beside the failover. Noted once per view."""
        if view == self._served_view:
            return []
        self._served_view, began = view, self.outage_from
        self.outage_from = None
        self.outage_ms = outage_ms = None if began is None else round(1000 * (now - began), 1)
        return [Happened("serving", waited, {"view": view, "outage_ms": outage_ms})]

    def panicked(self, why: str) -> list[Happened]:
        return [Happened("guest", why, {"what": PANICKED})]

    def restarted(self, why: str) -> list[Happened]:
        return [Happened("guest", why, {"what": RESTARTED})]

    def look(self, now: float, mode: str, reason: str) -> list[Happened]:
        """The group's mode as we see it now. Noted when it changes, with the duration of the mode that ended."""
        if mode == self.mode:
            return []
        lasted_s = None if self.mode is None else round(now - self.mode_since, 3)
        note = Happened("mode", reason, {"mode": mode, "before": self.mode, "before_s": lasted_s})
        self.mode, self.mode_since, self.reason = mode, now, reason
        return [note]
