# SPDX-License-Identifier: GPL-3.0-or-later
"""A drill: a switchover there and back, asked for on the leader (``ploverctl drill``). Pure.

The replica that handed over asks for the VM with its join request. The new leader, if it leads by that, hands it back by a switchover once
it is protected again, and tells for how long clients had waited for it. A leader of an earlier version ignores what it does not
know in the request; then the VM stays there until the operator hands it back.
"""

from __future__ import annotations

import math
import re
from typing import Any

HAND_BACK = "hand_back"  # in a join request
LIMIT_S = 600.0  # for which the VM is asked for
OUTAGE_MS_MAX = 1e9
_TOLD = re.compile(r"drill: clients waited (\d{1,12}\.\d) ms\Z", re.ASCII)
UNKNOWN = "drill: clients waited for an unknown time"


def told(outage_ms: float | None) -> str:
    """The reason that goes with the request to take over."""
    return UNKNOWN if outage_ms is None else f"drill: clients waited {min(outage_ms, OUTAGE_MS_MAX):.1f} ms"


class Drill:
    """The drill that was asked for on this host last."""

    def __init__(self, began: float | None = None) -> None:
        """``began``: when the other replica came to lead; None if there was no drill."""
        self._began, self._over = began, False
        self._until = -math.inf if began is None else began + LIMIT_S
        self.there_ms: float | None = None  # for how long clients waited for the other replica
        self.back_ms: float | None = None  # and then for this one

    def asks(self, now: float) -> bool:
        """We want the VM back."""
        return now < self._until

    def handed_back(self, now: float, why: str) -> bool:
        """The leader asks us to take over for this reason: is it what we asked it for?"""
        found = _TOLD.match(why)
        if not self.asks(now) or not (found or why == UNKNOWN):
            return False
        self.there_ms = float(found[1]) if found else None
        return True

    def leads(self) -> None:
        """This replica leads, for whatever reason."""
        self._until = -math.inf

    def serving(self, outage_ms: float | None) -> None:
        if self._began is not None and not self._over:
            self._over, self.back_ms = True, outage_ms

    def describe(self) -> dict[str, Any]:
        """Empty if there was none."""
        return {"drill": {"over": self._over, "there_ms": self.there_ms, "back_ms": self.back_ms}} if self._began is not None else {}


class HandBack:
    """The other replica's part: it leads, and hands the VM back once."""

    def __init__(self) -> None:
        self.wanted = self.under_way = False

    def begins(self, ready: bool) -> bool:
        """Is the switchover to be asked for now?"""
        if not (self.wanted and ready):
            return False
        self.wanted, self.under_way = False, True
        return True

    def reason(self, outage_ms: float | None) -> str:
        """Of the request to take over; empty in any other switchover."""
        return told(outage_ms) if self.under_way else ""
