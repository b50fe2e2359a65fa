# SPDX-License-Identifier: GPL-3.0-or-later
"""Consensus of three members: views, votes, one log, and the in-sync record.

Sans-I/O: events come in through methods; effects go out through :meth:`Consensus.take`, in order. A ``Persist``
must be on disk before anything after it is carried out (invariant 3). Time is an argument (seconds).

Rules in addition to Paxos (paper §3.2: the witness never leads; only a replica in sync can be the next leader):
 * A member votes for a candidate only if the candidate's in-sync record is not older than its own and the
   candidate is in it (invariant 5). Records are ordered by (view, version) and stored on a quorum.
 * A member without its state file takes no part until it has recovered (consensus/amnesia.py).
 * No member votes while it hears the leader, so a broken link between two members deposes nobody. This only
   avoids needless elections. Safety comes from the view that every acknowledgement carries.
 * A follower counts an entry as committed once it holds it: leader + follower are a quorum of three.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from ..config.timing import Timing, Timings
from ..errors import InvariantViolation, WireError
from ..protocol import wire
from . import sender
from .amnesia import Amnesia
from .durable import Durable, Record
from .effects import CANDIDATE, FOLLOWER, LEADER, Deposed, Elected, Output, Persist, RecordCommitted, Send
from .followers import Followers
from .group import Group
from .log import Entry, Log
from .promises import Promises
from .sender import ERA
from .sending import Sending
from .votes import Votes

DEAF_AFTER, DEAF_PAUSE = 2, 5  # detection times
FRESH_SHARE = 0.8  # of the detection time: an acknowledgement older than this share is not fresh


class Consensus:
    """One member. Its parts: :class:`Promises` (view, vote, record), :class:`Votes` (elections), :class:`Log`, and while it
    leads :class:`Followers` (what the other members hold)."""

    def __init__(self, me: str, members: dict[str, str], state: Durable | None, timing: Timing, now: float) -> None:
        """``members``: name -> 'replica' | 'witness', three of them. ``state``: None if this member has lost it."""
        self.me, self.members, self.timing, self.timings = me, members, timing, Timings(timing)
        self.group = Group(me, members)
        self.group.check_names(state or Durable())
        self.others = self.group.others
        self.role: str = FOLLOWER
        self.leader: str | None = None
        self.eligible = False  # set by the owner: this replica holds the VM's state
        self.alone = False  # we lead by force, and no other member has acknowledged our view yet
        self.log, self.commit_index, self.truncate_index = Log(), 0, 0
        self.record_committed = False
        self.last_heard = dict.fromkeys(self.others, float("-inf"))
        self.followers, self.sending = Followers(self.others, float("-inf")), Sending(self.group)
        self._leader_heard = self._next_heartbeat = now
        self._out: list[Output] = []
        # Called before we vote, stand or enter another view. From then on no leader can write into our memory, and all
        # earlier writes have been received (consensus/one_sided.py). With TCP there is nothing to do.
        self.seal: Callable[[float], None] = lambda now: None
        self.promises = Promises(state or Durable(), lambda new: self._out.append(Persist(new)))
        self.votes = Votes(self.group, timing, self.promises, self.log, self, state is None, now)

    # ---- views of the parts -------------------------------------------------------------------------
    @property
    def view(self) -> int:
        return self.promises.view

    @property
    def voted_for(self) -> str | None:
        return self.promises.voted_for

    @property
    def record(self) -> Record:
        return self.promises.record

    @property
    def amnesia(self) -> Amnesia | None:
        return self.votes.amnesia

    @property
    def confirmed_seq(self) -> int:
        return self.followers.confirmed_seq

    def forgot(self, now: float) -> list[str]:
        return self.votes.forgot(now)

    def forgotten(self, now: float) -> str:
        return self.votes.forgotten(now)

    # ---- the owner's side -------------------------------------------------------------------------
    def take(self) -> list[Output]:
        """Effects since the last call, in order. Raises InvariantViolation instead of returning any while an invariant is broken."""
        if not self._out:
            return []
        self.check_invariants()
        out, self._out = self._out, []
        return out

    def tick(self, now: float) -> None:
        if self.role != LEADER:
            return self.votes.tick(now)
        if self.sending.stalls(self.commit_index, self.log.last_index):
            self._replicate(*self.others)
        if now >= self._next_heartbeat:
            self._heartbeat(now)
            if self.deaf(now):  # let the others elect a leader that hears them; try again now and then
                self._next_heartbeat = now + DEAF_PAUSE * self.timing.detection

    def check_invariants(self) -> None:
        """These hold after every event. :class:`Promises` checks that views and records only grow and votes do not change."""
        if self.role != FOLLOWER and (not self.group.is_replica(self.me) or self.voted_for != self.me or self.amnesia):
            raise InvariantViolation(f"{self.me} is {self.role} in view {self.view}, where its vote is {self.voted_for}'s")
        if (self.role == LEADER) != (self.leader == self.me):
            raise InvariantViolation(f"{self.me} is {self.role} in view {self.view}, which {self.leader} leads")
        if not self.log.base_index <= self.commit_index <= self.log.last_index:
            raise InvariantViolation(
                f"committed up to {self.commit_index}, but the log goes from {self.log.base_index} to {self.log.last_index}"
            )

    def take_over(self, now: float) -> None:
        """The leader hands over to us: stand for election at once, even if other members still hear it."""
        if self.role != LEADER and self.votes.may_stand():
            self.votes.ask(now, pre=False, transfer=True)

    def resign(self) -> None:
        """A leader that lost its VM stops sending heartbeats. The secondary then takes over even if nobody asks it to."""
        if self.role == LEADER:
            self.role, self.leader, self.alone = FOLLOWER, None, False

    def force_lead(self, now: float) -> None:
        """The operator decides in place of a quorum: lead a new view alone, recorded as the only member in sync.

        The view begins an era that only we can force (era modulo members = our place among them). Ordinary elections stay
        inside an era, so no other member ever leads this view, and any member that hears of it follows. We are our own
        quorum until another member acknowledges the view; from then on the ordinary rules apply again.
        """
        if not self.group.is_replica(self.me):
            raise InvariantViolation("the witness never leads")
        self.seal(now)
        era = self.votes.overruled() // ERA + 1
        if self.role == LEADER:
            self._out.append(Deposed(self.view, None, True))  # the old view ends as if another member had ended it
        view = (era + (self.group.place - era) % len(self.group)) * ERA
        self.promises.enter(view, self.me, Record(view, self.record.version + 1, frozenset({self.me})))
        self.lead(now)
        self.alone = True

    def propose(self, kind: int, payload: bytes) -> int:
        """Leader: append one entry and send it to all. Returns its index."""
        self._need_leader()
        entry = Entry(self.log.last_index + 1, self.view, kind, payload)
        self.log.append(entry)
        self._replicate(*self.sending.at_once(self.record))
        if self.alone:
            self.commit_index = entry.index
        return entry.index

    def propose_record(self, in_sync: frozenset[str], off: bool | None = None) -> None:
        """Leader: make this the record; RecordCommitted follows once a quorum has stored it. ``off``: else as in this view so far."""
        self._need_leader()
        if not in_sync or not all(map(self.group.is_replica, in_sync)):
            raise InvariantViolation(f"in-sync set {sorted(in_sync)} must be replicas, at least one")
        off = self.record.off and self.record.view == self.view if off is None else off
        self.promises.store(Record(self.view, self.record.version + 1, in_sync, off))
        self.record_committed = False
        for other in self.others:
            self.send(other, wire.ProposeRecord(self.view, *self.group.record_fields(self.record)))
        if self.alone and in_sync == {self.me}:
            self._record_stored()

    def confirm(self, now: float) -> int:
        """Leader: returns a token. Once ``confirmed_seq`` reaches it, a quorum has acknowledged this view after this call."""
        self._need_leader()
        self._heartbeat(now)
        if self.alone:
            self.followers.confirm_all(now)
        return self.followers.seq

    def fresh(self, now: float) -> bool:
        """Leader: a quorum acknowledged a heartbeat so recent that no member can have voted against us since (paper §3.2). This relies
        on clocks, so safety does not depend on it: it only makes a leader that was hung ask before it releases output."""
        return self.alone or now - self.followers.confirmed_at <= FRESH_SHARE * self.timings.shortest_detection

    def fresh_until(self, now: float) -> float:
        """If we are fresh at ``now``, we may act on it until the returned time. Later, we may have been stopped in between."""
        return now + (1 - FRESH_SHARE) * self.timings.shortest_detection

    def truncate_to(self, index: int) -> None:
        """Leader: entries up to ``index`` are covered by a syncvm; all members may forget them."""
        self.truncate_index = max(self.truncate_index, min(index, self.commit_index))
        self.log.truncate(self.truncate_index)

    def connected(self, other: str, timing: Timing | None = None) -> None:
        """A new connection to ``other``: messages in flight on the old one may be lost. ``timing``: its own, if it told it."""
        self.followers.reconnected(other)
        if timing:
            self.timings.told(other, timing, self.group.is_replica(other))

    @property
    def silent_since(self) -> float:
        """When the leader (the last one, if we lead) was heard last."""
        return self._leader_heard

    def hears_quorum(self, now: float, within: float) -> bool:
        return self.alone or any(now - at <= within for at in self.followers.answered_at.values())

    def deaf(self, now: float) -> bool:
        """Leader: others may hear us, but we hear nobody, so we can commit nothing (check quorum, Raft thesis §6.2)."""
        return not self.hears_quorum(now, DEAF_AFTER * self.timing.detection)

    def hears(self, other: str, now: float, within: float = 0.0) -> bool:
        """``other`` was heard recently enough for its timing, or within ``within`` if that is longer."""
        return now - self.last_heard[other] < max(within, self.timings.patience(other))

    def hears_leader(self, now: float, within: float = 0.0) -> bool:
        """As :meth:`hears`, for messages that the leader (or the last leader) sent as leader."""
        return now - self._leader_heard < max(within, self.timings.patience(self.leader))

    # ---- the members' side ------------------------------------------------------------------------
    def receive(self, now: float, src: str, message: wire.Message) -> None:
        """Handle one message; raises WireError if it is malformed or a lie, InvariantViolation if we must stop."""
        self.check_sender(src, message)
        handler = self._HANDLERS.get(type(message))
        if handler is None:
            raise WireError(f"{type(message).__name__} is no consensus message")
        self.last_heard[src] = now
        if self.amnesia and isinstance(message, wire.Heartbeat):
            self._leader_heard = now
        if not self.amnesia or self.votes.recovers(now, src, message):
            handler(self, now, src, message)

    def check_sender(self, src: str, message: wire.Message) -> None:
        """Raises WireError if ``src`` cannot mean ``message``."""
        sender.check(self.group, self.view, self.leader, self.amnesia is not None, src, message)

    def _on_leader_message(self, now: float, src: str, view: int) -> bool:
        """True if ``src`` leads ``view`` and we follow it."""
        if view < self.view:
            # Tell an old leader the current view; it steps down.
            self.send(src, wire.AppendAck(self.view, self.log.last_index, False))
            return False
        if view > self.view or self.leader != src:
            self.follow(now, view, src)
        self._leader_heard = now
        self.votes.hearsay.forget()
        return True

    def _on_answer(self, now: float, src: str, m: wire.HeartbeatAck | wire.AppendAck) -> bool:
        """True if we lead the view that ``src`` acknowledges."""
        if m.view > self.view:
            self.votes.told(now, src, m.view)
        if self.role != LEADER or m.view != self.view:
            return False
        self.followers.check(m, self.log.last_index)
        self.followers.answered_at[src] = now
        if self.alone:  # a quorum is needed again, for the record too
            self.alone = self.record_committed = False
        return True

    def _on_heartbeat(self, now: float, src: str, m: wire.Heartbeat) -> None:
        if not self._on_leader_message(now, src, m.view):
            return
        self._store_record(m)
        self.truncate_index = max(self.truncate_index, m.truncate)
        self.log.truncate(min(m.truncate, self.log.agreed_index(self.view)))  # later entries may be an older leader's tail
        self.send(src, wire.HeartbeatAck(self.view, m.seq, self.log.last_index, *self.record.order))

    def _on_propose_record(self, now: float, src: str, m: wire.ProposeRecord) -> None:
        if self._on_leader_message(now, src, m.view):
            self._store_record(m)
            self.send(src, wire.HeartbeatAck(self.view, 0, self.log.last_index, *self.record.order))

    def _on_heartbeat_ack(self, now: float, src: str, m: wire.HeartbeatAck) -> None:
        if not self._on_answer(now, src, m):
            return
        self.followers.confirm(src, m.seq)
        if (m.record_view, m.record_version) == self.record.order and not self.record_committed and self.record.in_sync <= {self.me, src}:
            # A replica that joins the set must hold the record itself, or it could not take over from us.
            self._record_stored()
        if self.followers.answered(src, m.seq, m.last_index, self.log):
            self._replicate(src)

    def _on_append(self, now: float, src: str, m: wire.Append) -> None:
        if not self._on_leader_message(now, src, m.view):
            return
        agreed = self.log.follow(m)
        if agreed is None:
            self.send(src, wire.AppendAck(self.view, self.log.last_index, False))
        else:
            self.commit_index = agreed
            self.send(src, wire.AppendAck(self.view, agreed, True))

    def _on_append_ack(self, now: float, src: str, m: wire.AppendAck) -> None:
        if not self._on_answer(now, src, m):
            return
        if m.ok:
            return self._held_by(src, m.last_index)
        self.followers.refused(src)
        self._replicate(src)

    def stored(self, src: str, view: int, last_index: int, seq: int) -> None:
        """Leader: the network card says that heartbeat ``seq`` and the log up to ``last_index`` are in ``src``'s memory.

        ``src`` had not left our view when they landed (consensus/one_sided.py), so this counts as its acknowledgement. It
        does not show that ``src`` is alive.
        """
        if self.role == LEADER and view == self.view:
            self.followers.confirm(src, seq)
            self._held_by(src, last_index)

    def _held_by(self, src: str, last_index: int) -> None:
        self.followers.holds(src, last_index)
        # Leader + one follower = quorum. Only entries of this view are committed by counting (Raft §5.4.2).
        reached = min(last_index, self.log.last_index)
        if reached > self.commit_index and self.log.view_at(reached) == self.view:
            self.commit_index = reached
        if src in self.sending.at_once(self.record):
            self._replicate(src)  # what came since

    def _record_stored(self) -> None:
        self.record_committed = True
        self._out.append(RecordCommitted(self.record))

    # ---- changes of view, as Votes asks for them (Seat) -------------------------------------------------
    def follow(self, now: float, view: int, leader: str) -> None:
        """Enter ``view``, or learn its leader."""
        if view > self.view:
            self.seal(now)
        if view < self.view or (self.role == LEADER and view == self.view):
            raise InvariantViolation(f"view went from {self.view} to {view}")
        if view > self.view:
            self.promises.enter(view)
        self.step_down(view, leader)

    def with_other_replica(self, now: float) -> bool:
        """The other replica follows us, or leads us, and spoke so recently that it can have begun no view since."""
        if self.role != LEADER:
            return self.leader is not None and self.hears_leader(now)
        return self.followers.acknowledged_since(now - FRESH_SHARE * self.timings.standing_detection, self.group.replicas)

    def step_down(self, view: int, leader: str | None) -> None:
        """Be a follower in ``view``."""
        was_leader = self.role == LEADER
        self.role, self.leader, self.alone = FOLLOWER, leader, False
        self.votes.drop()
        self._out.append(Deposed(view, leader, was_leader))

    def stand(self) -> None:
        self.role, self.leader = CANDIDATE, None

    def give_up(self) -> None:
        self.role = FOLLOWER

    def lead(self, now: float) -> None:
        """We have won our view."""
        self.role, self.leader = LEADER, self.me
        self.commit_index = self.log.last_index  # held by a voter too, or by us and the old leader
        self.truncate_index = self.log.base_index  # ours may come from a fork that a forced leader ended
        self.followers, self.sending = Followers(self.others, now), Sending(self.group)
        self.alone = self.record_committed = False
        self._next_heartbeat = now
        self._out.append(Elected(self.view))

    # ---- helpers ------------------------------------------------------------------------------------
    def _store_record(self, m: wire.Heartbeat | wire.ProposeRecord) -> None:
        record = self.group.record_of(m)
        if record.order > self.record.order:
            self.promises.store(record)

    def _heartbeat(self, now: float) -> None:
        self._next_heartbeat = now + self.timing.heartbeat
        seq, record = self.followers.beat(now), self.group.record_fields(self.record)
        for other in self.others:
            self.send(other, wire.Heartbeat(self.view, seq, self.truncate_index, *record))
        self._replicate(*self.others)

    def _replicate(self, *others: str) -> None:
        for other in others:
            if message := self.followers.next_append(other, self.view, self.log):
                self.send(other, message)

    def send(self, to: str, message: wire.Message) -> None:
        self._out.append(Send(to, message))

    def _need_leader(self) -> None:
        if self.role != LEADER:
            raise InvariantViolation(f"{self.me} acts as leader but is {self.role} in view {self.view}")

    _HANDLERS: ClassVar[dict[type[wire.Message], Callable[[Consensus, float, str, Any], None]]] = {
        wire.Heartbeat: _on_heartbeat,
        wire.HeartbeatAck: _on_heartbeat_ack,
        wire.ProposeRecord: _on_propose_record,
        wire.Append: _on_append,
        wire.AppendAck: _on_append_ack,
        wire.VoteRequest: lambda self, now, src, m: self.votes.on_request(now, src, m),
        wire.VoteReply: lambda self, now, src, m: self.votes.on_reply(now, src, m),
    }
