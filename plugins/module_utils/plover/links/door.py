# SPDX-License-Identifier: GPL-3.0-or-later
"""Decides which new connections may wait for their greeting. Pure: time is an argument (seconds).

Anybody who reaches the port can open connections. Until a connection has proved who it is, it may cost us little: few of them
wait at a time, and strangers never take the places of members. Where a member's connections come from is known from the
settings; a member behind another address has the strangers' places.
"""

from __future__ import annotations

from collections import Counter

MEMBER_WAITING_MAX = 8  # of each member's address: a control and a data channel, and what is left of earlier ones
STRANGERS_WAITING_MAX = 16  # of all other addresses
STRANGERS_PER_S = 20.0


class Door:
    def __init__(self, members: frozenset[str], now: float) -> None:
        """``members``: their addresses."""
        self._members = members
        self._waiting: Counter[str] = Counter()
        self._strangers = 0
        self._tokens, self._at = STRANGERS_PER_S, now
        self.turned_away = 0

    def enter(self, now: float, address: str) -> bool:
        """May this connection wait for its greeting? If so, :meth:`leave` follows."""
        if address in self._members:
            lets_in = self._waiting[address] < MEMBER_WAITING_MAX
        else:
            self._tokens = min(STRANGERS_PER_S, self._tokens + (now - self._at) * STRANGERS_PER_S)
            self._at = now
            lets_in = self._strangers < STRANGERS_WAITING_MAX and self._tokens >= 1.0
            self._strangers += lets_in
            self._tokens -= lets_in
        if lets_in:  # an address that is turned away leaves nothing behind
            self._waiting[address] += 1
        self.turned_away += not lets_in
        return lets_in

    def leave(self, address: str) -> None:
        """It was greeted, or has ended."""
        self._waiting[address] -= 1
        if address not in self._members:
            self._strangers -= 1
        if not self._waiting[address]:
            del self._waiting[address]
