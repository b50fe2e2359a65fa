# SPDX-License-Identifier: GPL-3.0-or-later
"""Simulated time: events in order, and processes that can be stopped, go on, or die."""

from __future__ import annotations

import heapq
from collections.abc import Callable


class Process:
    """Whom events belong to. While it is held (SIGSTOP, a frozen host) its events wait; once dead they are dropped."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self.dead = False
        self.holds = 0
        self._deferred: list[tuple[Callable, tuple]] = []

    def hold(self) -> None:
        self.holds += 1

    def go_on(self) -> None:
        self.holds -= 1
        if not self.holds:
            waiting, self._deferred = self._deferred, []
            for fn, args in waiting:
                self._loop.after(0.0, self, fn, *args)

    def defer(self, fn: Callable, args: tuple) -> None:
        self._deferred.append((fn, args))


class Loop:
    def __init__(self) -> None:
        self.now = 0.0
        self.steps = 0
        self._queue: list[tuple] = []
        self._count = 0

    def after(self, delay_s: float, owner: Process | None, fn: Callable, *args: object) -> None:
        self._count += 1
        heapq.heappush(self._queue, (self.now + delay_s, self._count, owner, fn, args))

    def step(self) -> None:
        """Run the next event."""
        self.now, _, owner, fn, args = heapq.heappop(self._queue)
        if owner is not None:
            if owner.dead:
                return
            if owner.holds:
                owner.defer(fn, args)
                return
        self.steps += 1
        fn(*args)
