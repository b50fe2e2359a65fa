# SPDX-License-Identifier: GPL-3.0-or-later
"""The three members, as one of them sees them: names and kinds, what a quorum is, and sets of members as bit masks."""

from __future__ import annotations

import struct
from collections.abc import Collection, Mapping

from ..errors import DurableStateError, WireError
from ..protocol import wire
from .durable import Durable, Record

PAYLOAD = struct.Struct("!QQB")  # a record: view, version, in-sync mask
COUNT_MAX = 2**62  # no view, index or sequence number gets so far by counting; one more still fits its field


class Group:
    def __init__(self, me: str, kinds: Mapping[str, str]) -> None:
        """``kinds``: name -> 'replica' | 'witness', three of them."""
        self.me, self.kinds = me, kinds
        self._order = sorted(kinds)
        self.others = tuple(member for member in self._order if member != me)
        self.replicas = tuple(filter(self.is_replica, self.others))  # beside us

    def __len__(self) -> int:
        return len(self._order)

    @property
    def place(self) -> int:
        """Our number among the members, the same on all hosts."""
        return self._order.index(self.me)

    def is_replica(self, member: str) -> bool:
        return self.kinds.get(member) == "replica"

    def is_quorum(self, members: Collection[str]) -> bool:
        return 2 * len(members) > len(self)

    def check_names(self, state: Durable) -> None:
        """Raises DurableStateError if ``state`` is of another cluster."""
        strangers = (state.record.in_sync | {state.voted_for}) - {None, *self._order}
        if strangers:
            raise DurableStateError(
                f"the durable state names {sorted(map(str, strangers))}, who are not among 'members' "
                f"{self._order}; is it another cluster's? Give the members their old names back"
            )

    def record_fields(self, record: Record) -> tuple[int, int, int]:
        """``record`` as fields of a message; the set is a bit mask, with one more bit for "off"."""
        mask = sum(1 << self._order.index(member) for member in record.in_sync)
        return record.view, record.version, mask | record.off << len(self)

    def record_of(self, m: wire.Heartbeat | wire.ProposeRecord | wire.VoteRequest) -> Record:
        """The record in ``m``. Raises WireError."""
        return self._record(m.view, m.record_view, m.record_version, m.record_in_sync)

    def packed(self, record: Record) -> bytes:
        """``record`` as the payload of a refused vote."""
        return PAYLOAD.pack(*self.record_fields(record))

    def unpacked(self, m: wire.VoteReply) -> Record:
        """The record in the payload of ``m``. Raises WireError."""
        if len(m.payload) != PAYLOAD.size:
            raise WireError(f"an in-sync record of {len(m.payload)} bytes")
        return self._record(m.view, *PAYLOAD.unpack(m.payload))

    def _record(self, told_in: int, view: int, version: int, mask: int) -> Record:
        off, members = bool(mask >> len(self)), mask & ~(1 << len(self))
        if members >> len(self) or (off and not members):
            raise WireError(f"in-sync mask {mask:#x} names members that do not exist")
        if view > told_in:
            raise WireError(f"an in-sync record of view {view}, told in view {told_in}")
        if version > COUNT_MAX:
            raise WireError(f"an in-sync record of version {version}")
        if off and not version:
            raise WireError("a VM that was never booted is told to be off")
        return Record(view, version, frozenset(member for n, member in enumerate(self._order) if mask >> n & 1), off)
