# SPDX-License-Identifier: GPL-3.0-or-later
"""The TAPs of one VM, one for each network card, with their filters: one run of frames in and out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from ..config.settings import Config
from ..config.spoof import MAC, OFF, STRICT
from ..protocol.frames import by_card
from .tap import BATCH_FRAMES_MAX, Tap
from .tap_filter import TapFilter

WEAKEST_FIRST = (OFF, MAC, STRICT)


class Taps:
    def __init__(self, config: Config, now: Callable[[], float]) -> None:
        """Create them, down. ``now``: the clock of :meth:`write`. Raises NetworkError."""
        self._nics = config.nics
        self.each = [Tap(nic.tap, nic.bridge, config.network_ifup, config.network_ifdown, now, nic.number) for nic in config.nics]
        self.filters = [TapFilter(nic.tap, nic.given) for nic in config.nics]

    async def up(self) -> None:
        await _all(*[tap.up() for tap in self.each])

    async def down(self) -> None:
        await _all(*[tap.down() for tap in self.each])

    async def load_filters(self) -> None:
        await _all(*[each.load() for each in self.filters])

    async def close(self) -> None:
        for tap in self.each:
            tap.close()
        for each in self.filters:
            await each.remove()

    def read_batch(self) -> bytes:
        """Frames waiting in the TAPs, as a run no longer than one TAP's; empty if none."""
        share = BATCH_FRAMES_MAX // len(self.each)
        return b"".join([tap.read_batch(share) for tap in self.each])

    def write(self, run: bytes, until: float) -> bytes:
        """Send each frame of a run to its card's TAP, in order. Returns the frames that are still here after ``until``, as
        :meth:`Tap.write` does."""
        if len(self.each) == 1:
            return self.each[0].write(run, until)
        sent_bytes = 0
        for card, frames in by_card(run):
            late = self.each[card].write(frames, until)
            if late:
                return run[sent_bytes + len(frames) - len(late) :]
            sent_bytes += len(frames)
        return b""

    @property
    def dropped(self) -> int:
        """Frames that a TAP did not take."""
        return sum(tap.dropped for tap in self.each)

    @property
    def stale(self) -> int:
        """Frames that waited from before a TAP was down."""
        return sum(tap.stale for tap in self.each)

    def describe(self) -> dict[str, Any]:
        """For the status: the filter of all cards together; of several cards also each by itself."""
        found = [each.describe() for each in self.filters]
        reasons = dict.fromkeys(reason for one in found for reason in one["dropped"])
        together = {
            "check": min((one["check"] for one in found), key=WEAKEST_FIRST.index),
            "dropped": {reason: sum(one["dropped"].get(reason, 0) for one in found) for reason in reasons},
            "loaded_again": sum(one["loaded_again"] for one in found),
            "error": next((one["error"] for one in found if one["error"]), ""),
        }
        if len(found) == 1:
            return {"filter": together}
        cards = [{"mac": nic.mac, "tap": nic.tap, "bridge": nic.bridge, "filter": one} for nic, one in zip(self._nics, found, strict=True)]
        return {"filter": together, "nics": cards}


async def _all(*work: Any) -> None:
    """Do all at once, and to the end. Raises the first error."""
    for error in await asyncio.gather(*work, return_exceptions=True):
        if isinstance(error, BaseException):
            raise error
