# SPDX-License-Identifier: GPL-3.0-or-later
"""Elections: asking for votes, voting, counting votes, and recovery from amnesia. Sans-I/O.

The rules are in consensus.py. :class:`Seat` declares what Votes needs of its member; it owns everything else it uses.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ..config.timing import Timing
from ..errors import WireError
from ..protocol import wire
from .amnesia import LATELY_S, QUESTION, Amnesia, is_question
from .durable import Record
from .effects import CANDIDATE, LEADER
from .group import Group
from .hearsay import Hearsay
from .log import Log, check_views, pack, unpack
from .promises import Promises


class Seat(Protocol):
    """The member, as Votes sees it."""

    eligible: bool  # it holds the VM's state
    role: str
    leader: str | None
    alone: bool  # it leads by force, and no other member has acknowledged that yet
    seal: Callable[[float], None]  # from now on no leader can write into its memory; earlier writes have been received

    @property
    def silent_since(self) -> float:
        """The last time it heard the leader."""

    def hears_leader(self, now: float) -> bool: ...

    def with_other_replica(self, now: float) -> bool:
        """The other replica follows it, or leads it, and has begun no other view."""

    def send(self, to: str, message: wire.Message) -> None: ...

    def follow(self, now: float, view: int, leader: str) -> None:
        """Enter ``view``, or learn its leader."""

    def step_down(self, view: int, leader: str | None) -> None:
        """Become a follower in ``view``; the caller makes the promise that enters it."""

    def stand(self) -> None:
        """Become a candidate."""

    def give_up(self) -> None:
        """Stop being a candidate."""

    def lead(self, now: float) -> None:
        """Become the leader: it has won the view."""


class Votes:
    def __init__(self, group: Group, timing: Timing, promises: Promises, log: Log, seat: Seat, forgot_all: bool, now: float) -> None:
        self._group, self._timing, self._promises, self._log, self._seat = group, timing, promises, log, seat
        self.amnesia = Amnesia(group.others) if forgot_all else None
        self.hearsay = Hearsay(group, promises)
        self.transfer_granted = False  # our last vote was for a handover that the leader itself asked for
        self._forgetful: dict[str, float] = {}  # other members with amnesia, and when they last said so
        self._deadline = now  # of the last question
        self._pre, self._asked = True, 0  # the last question: was it a pre-vote, and for which view
        self._for_us: set[str] = set()

    def tick(self, now: float) -> None:
        """Called while we do not lead."""
        if now < self._deadline:
            return
        if self.amnesia:
            self._deadline = now + self._timing.heartbeat
            for other in self._group.others:
                self._seat.send(other, QUESTION)
        elif (self.may_stand() or self._may_be_named) and not self._seat.hears_leader(now):
            self.ask(now, pre=True, transfer=False)

    def drop(self) -> None:
        """Forget the votes for us: their view has ended."""
        self._for_us = set()

    # ---- votes for us -----------------------------------------------------------------------------------
    def may_stand(self) -> bool:
        if not self._group.is_replica(self._group.me) or not self._seat.eligible or self.amnesia:
            return False
        record = self.hearsay.record
        return self._group.me in record.in_sync or record.version == 0

    @property
    def _may_be_named(self) -> bool:
        """We hold the VM's state, and our record does not name us. A later one may, which we did not hear before its leader was
        gone: so we ask, and are refused with the voter's record."""
        return self._group.is_replica(self._group.me) and self._seat.eligible and not self.amnesia

    @property
    def _apart(self) -> float:
        """Extra wait after a failed candidacy, different for each member. Otherwise two candidates could stand at the same
        times for ever, each with its own vote, while the third member does not vote. (Raft §5.2 uses random time-outs; the
        core has no random numbers.)"""
        return self._group.place * self._timing.election / 2 if self._seat.role == CANDIDATE else 0.0

    def ask(self, now: float, pre: bool, transfer: bool) -> None:
        """Ask for votes. ``pre``: ask only whether we would get them. ``transfer``: the leader hands over to us."""
        seat, promises = self._seat, self._promises
        if not pre:
            heard = seat.silent_since
            seat.seal(now)
            if not self.may_stand() or (seat.silent_since != heard and not transfer):
                return  # a write received while sealing shows that the leader is alive, or that we may not stand
        self._pre = pre
        self._for_us = {self._group.me}
        self._deadline = now + (self._timing.heartbeat if pre else self._timing.election + self._apart)
        self._asked = view = self.hearsay.view + 1
        leader, record = seat.leader, self.hearsay.record
        if not pre:
            seat.stand()
            promises.enter(view, self._group.me, record)
        # A leader that hands over may hold frames that no other member has. They come with its vote, so ask only the leader.
        for other in (leader,) if transfer and leader in self._group.others else self._group.others:
            seat.send(
                other,
                wire.VoteRequest(view, pre, transfer, *self._group.record_fields(record), self._log.last_view, self._log.last_index),
            )

    def on_reply(self, now: float, src: str, m: wire.VoteReply) -> None:
        seat = self._seat
        if not m.granted:
            return self._refused(now, src, m)
        if m.pre != self._pre or m.view != self._asked or seat.role == LEADER or src in self._for_us:
            return
        if seat.hears_leader(now) if self._pre else seat.role != CANDIDATE:
            return  # nobody asks any more; and no member stands against a leader that it hears
        self._for_us.add(src)
        if not self._group.is_quorum(self._for_us):
            return
        if not self.may_stand():  # the VM's state was lost here while the votes were on their way
            if not self._pre:
                seat.give_up()
        elif self._pre:
            self.ask(now, pre=False, transfer=False)
        else:
            if m.ahead:
                self._take_over_log(m)
            seat.lead(now)

    def _refused(self, now: float, src: str, m: wire.VoteReply) -> None:
        """A refusal tells the voter's view, and perhaps a record that names us."""
        record = self._group.unpacked(m) if m.payload else None
        if record or m.view > self._promises.view:
            self.told(now, src, m.view, record)

    def told(self, now: float, src: str, view: int, record: Record | None = None) -> None:
        """``src`` speaks of ``view``, and of ``record``, which we have not seen (consensus/hearsay.py)."""
        later = view > self._promises.view
        if not self._group.is_replica(src) and self._seat.with_other_replica(now):
            if later:
                self.hearsay.doubt(src, view)
            return
        self.hearsay.note(src, view, record)
        if later and self._seat.role == LEADER:
            self._seat.step_down(view, None)

    def _take_over_log(self, m: wire.VoteReply) -> None:
        """Entries that the voter holds and we lack may be committed, so we take them over (Paxos)."""
        entries = unpack(m.payload)
        check_views(m.from_view, entries, m.view)
        if entries and entries[0].index != m.from_index + 1:
            raise WireError(f"vote with entries from {entries[0].index}, announced after {m.from_index}")
        if self._log.view_at(m.from_index) == m.from_view:
            self._log.cut_after(m.from_index)
        else:
            self._log.reset(m.from_index, m.from_view)
        for entry in entries:
            self._log.append(entry)

    # ---- our vote -----------------------------------------------------------------------------------------
    def refusal(self, now: float, src: str, m: wire.VoteRequest) -> str | None:
        """Why ``src`` does not get our vote; None if it does."""
        candidate, promises, seat = self._group.record_of(m), self._promises, self._seat
        if not self._group.is_replica(src):
            return "the witness never leads"
        if candidate.order < promises.record.order:
            return "its in-sync record is older than mine"
        if candidate.version and src not in candidate.in_sync:
            return "it is not in the in-sync set"
        if m.view < promises.view or (m.view == promises.view and promises.voted_for != src):
            return "the view is taken"
        hears = seat.role == LEADER or seat.hears_leader(now)
        if not m.transfer and hears and seat.leader != src:
            return "the leader is alive"
        return None

    def on_request(self, now: float, src: str, m: wire.VoteRequest) -> None:
        if is_question(m):
            self._forgetful[src] = now
            if self._seat.leader == src:
                self._seat.leader = None  # it has forgotten that it led
            self._seat.send(src, wire.VoteReply(self._promises.view, True, False, self._seat.alone, 0, 0))
            return
        granted = self.refusal(now, src, m) is None
        if granted and not m.pre:
            self._seat.seal(now)
            granted = self.refusal(now, src, m) is None  # a write received while sealing may be a reason against it
        if granted and not m.pre:
            self._grant(now, src, m)
        log = self._log
        ahead = granted and not m.pre and (log.last_view, log.last_index) > (m.last_view, m.last_index)
        start = m.last_index if log.view_at(m.last_index) == m.last_view else log.base_index
        # A refusal carries the voter's own view, and a newer record that names the candidate, so that it catches up.
        newer = not granted and self._promises.record.order > (m.record_view, m.record_version) and src in self._promises.record.in_sync
        self._seat.send(
            src,
            wire.VoteReply(
                m.view if granted else self._promises.view,
                m.pre,
                granted,
                ahead,
                start,
                log.view_at(start) or 0,
                pack(log.after(start)) if ahead else self._group.packed(self._promises.record) if newer else b"",
            ),
        )

    def _grant(self, now: float, src: str, m: wire.VoteRequest) -> None:
        if m.view > self._promises.view:
            self._seat.step_down(m.view, None)
        self.transfer_granted = m.transfer
        self._deadline = now + self._timing.election  # we do not stand against the candidate that just got our vote
        self._promises.enter(m.view, src)

    # ---- amnesia (consensus/amnesia.py) ---------------------------------------------------------------------
    def recovers(self, now: float, src: str, m: wire.Message) -> bool:
        """Whether ``m`` ends our amnesia. Until then we answer nothing, as none of our answers may count."""
        if isinstance(m, wire.VoteRequest) and is_question(m):
            self._forgetful[src] = now
        if self.amnesia is None or not self.amnesia.heard(src, m) or not isinstance(m, wire.Heartbeat):
            return False
        self._promises.enter(m.view, None, self._group.record_of(m))
        self.amnesia = None
        self._seat.follow(now, m.view, src)
        return True

    def overruled(self) -> int:
        """End our amnesia by an operator's word. Returns the highest view that we know of."""
        told = self.amnesia.newest if self.amnesia else 0
        self.amnesia = None
        return max(self.hearsay.view, told)

    def forgot(self, now: float) -> list[str]:
        """Other members that said recently that they have amnesia."""
        return [other for other in self._group.others if now - self._forgetful.get(other, float("-inf")) < LATELY_S]

    def forgotten(self, now: float) -> str:
        """A sentence about our amnesia for the operator; empty if we have none."""
        return self.amnesia.describe(self.forgot(now)) if self.amnesia else ""
