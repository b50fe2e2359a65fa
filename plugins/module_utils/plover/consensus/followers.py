# SPDX-License-Identifier: GPL-3.0-or-later
"""What a leader knows of the other members in its view: the entries that each holds, those on their way to it, and the last
heartbeat that a quorum has acknowledged. Pure.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection

from ..errors import InvariantViolation, WireError
from ..protocol import wire
from .log import Log, pack

BEATS_MAX = 1000
WHOLE_LOG = -1  # in place of the last index sent: the member holds nothing that we can append to


class Followers:
    """Belongs to one leader in one view; the next view gets a new object."""

    def __init__(self, others: tuple[str, ...], now: float) -> None:
        self._others = others
        self.acked_index = dict.fromkeys(others, 0)
        self.answered_at = dict.fromkeys(others, now)
        # When the last heartbeat that it acknowledged was sent. Elected just now, we take all others for ours.
        self.acknowledged_at = dict.fromkeys(others, now)
        self.seq = 0  # the last heartbeat
        self.confirmed_seq = 0  # the last heartbeat that a quorum acknowledged
        self.confirmed_at = float("-inf")  # when that heartbeat was sent
        self._beats: deque[float] = deque(maxlen=BEATS_MAX)  # when each of the last heartbeats was sent
        self._sent_index: dict[str, int | None] = dict.fromkeys(others)  # None: unknown until its next answer
        # A heartbeat, and the last index sent before it. A member that answers it and holds less has lost entries.
        self._marks: dict[str, tuple[int, int] | None] = dict.fromkeys(others)
        self._append_key: tuple[int, int, bool, int] | None = None
        self._append: tuple[wire.Append, int]

    # ---- heartbeats -------------------------------------------------------------------------------------
    def beat(self, now: float) -> int:
        """Number a heartbeat that is sent to all members now."""
        self.seq += 1
        self._beats.append(now)
        for other in self._others:
            sent = self._sent_index[other]
            if self._marks[other] is None and sent is not None:
                self._marks[other] = (self.seq, sent)
        return self.seq

    def check(self, m: wire.HeartbeatAck | wire.AppendAck, last_index: int) -> None:
        """Raises WireError if ``m`` acknowledges what this leader, whose log ends at ``last_index``, has never sent."""
        if isinstance(m, wire.HeartbeatAck) and m.seq > self.seq:
            raise WireError(f"an answer to heartbeat {m.seq}; the last one was {self.seq}")
        if isinstance(m, wire.AppendAck) and m.ok and m.last_index > last_index:
            raise WireError(f"entries up to {m.last_index} are acknowledged; the last one is {last_index}")

    def confirm(self, src: str, seq: int) -> None:
        """``src`` acknowledged heartbeat ``seq``; together with us, that is a quorum."""
        seq = min(seq, self.seq)
        at = seq - self.seq + len(self._beats) - 1
        sent_at = self._beats[at] if at >= 0 else float("-inf")  # too old to know
        self.acknowledged_at[src] = max(self.acknowledged_at[src], sent_at)
        if seq > self.confirmed_seq:
            self.confirmed_seq, self.confirmed_at = seq, max(self.confirmed_at, sent_at)

    def acknowledged_since(self, at: float, members: Collection[str]) -> bool:
        """One of ``members`` acknowledged a heartbeat that was sent at ``at`` or later."""
        return any(self.acknowledged_at[member] >= at for member in members)

    def confirm_all(self, now: float) -> None:
        """We are a quorum by ourselves."""
        self.confirmed_seq, self.confirmed_at = self.seq, now

    # ---- the log ------------------------------------------------------------------------------------------
    def reconnected(self, other: str) -> None:
        """Messages on their way to it may be lost."""
        self._sent_index[other] = None

    def refused(self, src: str) -> None:
        """Its log differs from ours where the appended entries began: send it the whole log."""
        self._sent_index[src] = WHOLE_LOG

    def holds(self, src: str, last_index: int) -> None:
        self.acked_index[src] = max(self.acked_index[src], last_index)

    def answered(self, src: str, seq: int, last_index: int, log: Log) -> bool:
        """It answered heartbeat ``seq`` and holds a log up to ``last_index``. True if that tells again what to send next."""
        mark = self._marks[src]
        if mark and seq >= mark[0]:
            self._marks[src] = None
            if last_index < mark[1]:
                self._sent_index[src] = None  # entries sent before that heartbeat did not arrive
        if self._sent_index[src] is not None:
            return False
        self._sent_index[src] = last_index if log.view_at(last_index) is not None else WHOLE_LOG
        return True

    def next_append(self, other: str, view: int, log: Log) -> wire.Append | None:
        """The entries that ``other`` lacks, as many as fit one message. None if it lacks none, or we do not know what it holds."""
        sent = self._sent_index[other]
        if sent is None or sent >= log.last_index:
            return None
        reset = sent < log.base_index
        sent = log.base_index if reset else sent
        key = (view, sent, reset, log.last_index)
        if key != self._append_key:  # usually both lack the same entries, so they are packed once
            self._append_key, self._append = key, _append_after(log, sent, view, reset)
        message, self._sent_index[other] = self._append
        return message


def _append_after(log: Log, sent: int, view: int, reset: bool) -> tuple[wire.Append, int]:
    """The message with the entries after ``sent``, and the index of the last in it."""
    entries, sent_view = log.part_after(sent), log.view_at(sent)
    if sent_view is None:
        raise InvariantViolation(f"no entry {sent} to replicate from; log starts at {log.base_index}")
    return wire.Append(view, sent, sent_view, reset, pack(entries)), entries[-1].index if entries else sent
