# SPDX-License-Identifier: GPL-3.0-or-later
"""How long a VM that does nothing is left alone. Pure.

Each syncvm stops the VM, and its clock with it, so a VM that gets no input, sends nothing and writes little is stopped less and
less often. What a failover would then repeat is what the VM did by itself in that time, and nobody has seen it. As soon as it does
anything, the shortest interval counts again.
"""

from __future__ import annotations

from ..config.settings import Config
from ..syncvm.figures import Figures
from .scrub import SLICE_PAGES_MAX

QUIET_PAGES_MAX = 2048  # dirty pages at the end of an interval: hashed in half a millisecond


class Rest:
    """Times in seconds."""

    def __init__(self, config: Config, pages: int) -> None:
        """``pages``: of guest memory. The scrub goes by slices with each syncvm, and must still be done in its time."""
        slice_s = config.scrub_interval_s * SLICE_PAGES_MAX / pages if config.scrub_interval_s else float("inf")
        idle_s = 0.0 if config.checkpoints else min(config.syncvm_idle_interval_ms_max / 1000, slice_s)
        self._shortest_s: float = config.syncvm_interval_ms_max / 1000
        self._now_s = self._shortest_s
        self._longest_s = max(self._shortest_s, idle_s)
        self._ended_at: float | None = None

    def interval_s(self, logged_bytes: int) -> float:
        """When the next syncvm is due after the last one. ``logged_bytes``: of input since then."""
        return self._shortest_s if logged_bytes else self._now_s

    def learn(self, figures: Figures, now: float) -> None:
        """A syncvm has ended."""
        waited_s, self._ended_at = now - (now if self._ended_at is None else self._ended_at), now
        quiet = waited_s >= self._now_s and figures.dirty_pages <= QUIET_PAGES_MAX and not figures.audit
        self._now_s = min(2 * self._now_s, self._longest_s) if quiet else self._shortest_s
