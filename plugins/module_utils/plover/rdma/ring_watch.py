# SPDX-License-Identifier: GPL-3.0-or-later
"""A thread that waits for the next frame in a ring and wakes the event loop. It polls less and less often while none comes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

from .library import RingReader

SPIN_NS, PAUSE_NS, LIMIT_NS = 20_000, 500_000, 100_000_000
LOOK_S = 1.0
HALF_S = (0.0001, 0.05)  # shortest and longest pause while a frame is incomplete: the rest comes soon, or its writer is dead


class RingWatch:
    def __init__(self, reader: RingReader, loop: asyncio.AbstractEventLoop, look: Callable[[], None], name: str) -> None:
        """``look()`` is called in the event loop and reads all frames."""
        self._reader, self._loop, self._look = reader, loop, look
        self._looked = threading.Event()
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def stop(self) -> None:
        """``look()`` is not called after this."""
        self._reader.stop.value = 1
        self._looked.set()

    def _run(self) -> None:
        pause_s = HALF_S[0]
        while not self._reader.stop.value:
            position = self._reader.position
            if not self._reader.wait(position, SPIN_NS, PAUSE_NS, LIMIT_NS):
                continue
            self._looked.clear()
            try:
                self._loop.call_soon_threadsafe(self._called)
            except RuntimeError:  # the loop has ended
                return
            self._looked.wait(LOOK_S)
            if self._reader.position != position:
                pause_s = HALF_S[0]
            else:
                threading.Event().wait(pause_s)
                pause_s = min(2 * pause_s, HALF_S[1])

    def _called(self) -> None:
        try:
            if not self._reader.stop.value:
                self._look()
        finally:
            self._looked.set()
