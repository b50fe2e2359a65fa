# SPDX-License-Identifier: GPL-3.0-or-later
"""A new link takes the place of one that is up, and no message is lost or overtaken: for a new certificate, or to go over to TLS.

Both members do the same, each for what it receives. Once the new link is greeted, all is sent by it; the old one gets an end mark
(in TLS one that nobody else can make). What comes by the new link waits until the old one's end mark is here. Without that mark in
time, the new link is closed as well, as if there had been no old one: something may be lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from ..protocol import wire

S_MAX = 5.0  # from the greeting of the new link to the end of the old one


class End(Protocol):
    """A link (link.py), as its succession sees it."""

    transport: asyncio.Transport
    channel: int
    ended: bool
    succession: Succession | None

    def finish(self) -> None: ...

    def broken(self, why: str) -> None: ...

    def heard_late(self, messages: list[wire.Message]) -> None: ...


class Succession:
    def __init__(self, old: End, new: End, call_later: Callable[[float, Callable[[], None]], object]) -> None:
        self._old, self._new = old, new
        self._held: list[wire.Message] = []
        self._over = False
        old.succession = new.succession = self
        new.transport.pause_reading()
        call_later(S_MAX, self._late)
        old.finish()
        if old.ended:
            self.ended()

    def holds(self, link: End, message: wire.Message) -> bool:
        """A message has come by ``link``. Must it wait? Bounded: reading is paused."""
        if self._over or link is not self._new:
            return False
        self._held.append(message)
        return True

    def ended(self) -> None:
        """The old link's end mark is here."""
        if not self._over:
            self._over, held = True, self._held
            self._held = []
            self._new.succession = None
            self._old.transport.close()
            self._new.heard_late(held)
            self._new.transport.resume_reading()

    def lost(self, link: End) -> None:
        """``link`` is closed."""
        if self._over:
            return
        if link is self._new:
            self._over = True
            self._old.transport.abort()
        elif link.channel == wire.CONTROL:  # as on any network, messages of this channel may be lost
            self.ended()
        else:
            self._over = True
            self._new.broken("the link before it was lost before its end")

    def _late(self) -> None:
        if not self._over:
            self._old.transport.abort()
