# SPDX-License-Identifier: GPL-3.0-or-later
"""Consensus of three members: views, votes, one log, and the record of who is in sync.

Sans-I/O: events in through methods, what must be done out through :meth:`Consensus.take`, in order. A
``Persist`` must be on disk before anything after it is done (invariant 3). Time is an argument (seconds).

Rules, beside those of Paxos (paper §3.2: the witness never wins, a replica in sync is the only next leader):
 * A member votes for a candidate only if the candidate's in-sync record is not older than its own and the
   candidate is in it (invariant 5). Records are ordered by (view, version) and stored on a quorum.
 * A member without its state file takes part in nothing before it has recovered (consensus/amnesia.py).
 * Nobody votes while it hears the leader, so a cut between two members deposes nobody. This is politeness,
   never safety: safety is the view that every acknowledgement carries.
 * A follower counts an entry as committed when it holds it: leader + follower are a quorum of three.
"""
from __future__ import annotations

from collections import deque
from collections.abc import Callable

from ..config.timing import Timing, Timings
from ..errors import DurableStateError, InvariantViolation, WireError
from ..protocol import wire
from .amnesia import Amnesia
from .durable import Durable, Record
from .effects import FOLLOWER, LEADER, Deposed, Output, Persist, RecordCommitted, Send
from .elections import Elections
from .log import Entry, Log, pack, unpack

APPEND_BYTES_MAX = 1 << 20
BEATS_MAX = 1000
DEAF_AFTER, DEAF_PAUSE = 2, 5  # detection times
FRESH_SHARE = 0.8  # of the detection time: so much younger than any vote against us must an acknowledgement be
ERA = 1_000_000  # views between two forced ones; see Consensus.force_lead


class Consensus(Elections):
    def __init__(self, me: str, members: dict[str, str], state: Durable | None, timing: Timing, now: float) -> None:
        """``members``: name -> 'replica' | 'witness', three of them. ``state``: None if this member has forgotten it."""
        self.me, self.members, self.timing, self.timings = me, members, timing, Timings(timing)
        self._order = sorted(members)
        self.others = tuple(m for m in self._order if m != me)
        self.view, self.voted_for, self.record = state or Durable()
        self.amnesia = Amnesia(self.others) if state is None else None
        self.forgetful: dict[str, float] = {}  # others that have forgotten all, and when they said so last
        strangers = (self.record.in_sync | {self.voted_for}) - {None, *members}
        if strangers:
            raise DurableStateError(f"the durable state names {sorted(strangers)}, who are not among 'members' "
                                    f"{self._order}; is it another cluster's? Give the members their old names back")
        self.role, self.leader = FOLLOWER, None
        self.eligible = False  # set by the owner: this replica holds the VM's state
        self.log = Log()
        self.commit_index = 0
        self.truncate_index = 0
        self.seq = 0
        self.confirmed_seq = 0
        self._beats: deque[tuple[int, float]] = deque(maxlen=BEATS_MAX)  # not acknowledged yet: seq, when sent
        self._confirmed_at = float("-inf")
        self._marks: dict[str, tuple[int, int] | None] = dict.fromkeys(self.others)
        self.acked_index = dict.fromkeys(self.others, 0)
        self.last_heard = dict.fromkeys(self.others, float("-inf"))
        self.answered_at = dict.fromkeys(self.others, float("-inf"))  # leader: acknowledged something in our view
        self.record_committed = False
        self._sent_index: dict[str, int | None] = dict.fromkeys(self.others)
        self._agreed = (-1, -1)  # (view, index), see _agreed_index
        self._append_key: tuple[int, int, bool, int] | None = None
        self._append: tuple[wire.Append, int]
        self.alone = False  # leading by force, and nobody else has acknowledged our view yet
        self.transfer_granted = False  # our last vote was asked for by the leader itself
        self._leader_heard = now
        self._next_heartbeat = now
        self._deadline = now
        self._votes: set[str] = set()
        self._pre = True
        self._out: list[Output] = []
        # Called before we vote, stand or enter another view: no leader writes into our memory from then on, and what one
        # had written has been received (consensus/one_sided.py). Without such writes there is nothing to do.
        self.seal: Callable[[float], None] = lambda now: None

    # ---- the owner's side -------------------------------------------------------------------------
    def take(self) -> list[Output]:
        """What is to be done since the last call, in order."""
        out, self._out = self._out, []
        return out

    def tick(self, now: float) -> None:
        if self.amnesia:
            self._ask_what_we_forgot(now)
        elif self.role == LEADER:
            if now >= self._next_heartbeat:
                self._heartbeat(now)
                if self.deaf(now):  # let the others elect one who hears them; now and then see whether we do again
                    self._next_heartbeat = now + DEAF_PAUSE * self.timing.detection
        elif self._may_stand() and not self.hears_leader(now) and now >= self._deadline:
            self._ask(now, pre=True, transfer=False)

    def take_over(self, now: float) -> None:
        """The leader handed over: stand for election at once, whoever still hears it."""
        if self.role != LEADER and self._may_stand():
            self._ask(now, pre=False, transfer=True)

    def resign(self) -> None:
        """A leader that lost its VM falls silent, so that the secondary takes over even if nobody asks it to."""
        if self.role == LEADER:
            self.role, self.leader, self.alone = FOLLOWER, None, False

    def force_lead(self, now: float) -> None:
        """The operator's word in place of a quorum's: lead a view of our own, alone, recorded as the only one in sync.

        The view begins an era that only we can force (era modulo members = our place among them). Ordinary elections stay
        inside an era, so no other member ever leads this view, and any member that hears of it follows. We are our own
        quorum until another member acknowledges the view; from then on the ordinary rules hold, for good.
        """
        if self.members[self.me] != "replica":
            raise InvariantViolation("the witness never leads")
        self.seal(now)
        known = max(self.view, self.amnesia.newest if self.amnesia else 0)
        place, era = self._order.index(self.me), known // ERA + 1
        if self.role == LEADER:
            self._out.append(Deposed(self.view, None, True))  # the old view ends as if another member had ended it
        self.view, self.voted_for, self.amnesia = (era + (place - era) % len(self._order)) * ERA, self.me, None
        self.record = Record(self.view, self.record.version + 1, frozenset({self.me}))
        self._persist()
        self._win(now)
        self.alone = True

    def propose(self, kind: int, payload: bytes) -> int:
        """Leader: append one entry and send it to all. Returns its index."""
        self._need_leader()
        entry = Entry(self.log.last_index + 1, self.view, kind, payload)
        self.log.append(entry)
        for other in self.others:
            self._replicate(other)
        if self.alone:
            self.commit_index = entry.index
        return entry.index

    def propose_record(self, in_sync: frozenset[str]) -> None:
        """Leader: make ``in_sync`` the record; RecordCommitted follows once a quorum stored it."""
        self._need_leader()
        if not in_sync or any(self.members.get(m) != "replica" for m in in_sync):
            raise InvariantViolation(f"in-sync set {sorted(in_sync)} must be replicas, at least one")
        self.record = Record(self.view, self.record.version + 1, in_sync)
        self.record_committed = False
        self._persist()
        for other in self.others:
            self._send(other, wire.ProposeRecord(self.view, *self._record_fields()))
        if self.alone and in_sync == {self.me}:
            self._record_stored()

    def confirm(self, now: float) -> int:
        """Leader: a token; once ``confirmed_seq`` reaches it, a quorum has acknowledged this view since now."""
        self._need_leader()
        self._heartbeat(now)
        if self.alone:
            self.confirmed_seq, self._confirmed_at = self.seq, now
            self._beats.clear()
        return self.seq

    def fresh(self, now: float) -> bool:
        """Leader: a quorum acknowledged something we sent so lately that nobody can have voted against us since.

        Who votes has not heard us for the detection time (paper §3.2). This rests on clocks, so no safety rests on it: it
        only tells a leader that was hung to ask before it speaks.
        """
        return self.alone or now - self._confirmed_at <= FRESH_SHARE * self.timings.shortest_detection

    def fresh_until(self, now: float) -> float:
        """What was fresh at ``now`` may be acted on until then: who does so later may have been stopped in between."""
        return now + (1 - FRESH_SHARE) * self.timings.shortest_detection

    def truncate_to(self, index: int) -> None:
        """Leader: entries up to ``index`` are covered by a syncvm; all members may forget them."""
        self.truncate_index = max(self.truncate_index, min(index, self.commit_index))
        self.log.truncate(self.truncate_index)

    def connected(self, other: str, timing: Timing | None = None) -> None:
        """A new connection to ``other``: what was in flight on the old one may be lost. ``timing``: if it told its own."""
        self._sent_index[other] = None
        if timing:
            self.timings.told(other, timing)

    @property
    def silent_since(self) -> float:
        """When the leader (the last one, if we lead) was heard last."""
        return self._leader_heard

    def hears_quorum(self, now: float, within: float) -> bool:
        return self.alone or any(now - at <= within for at in self.answered_at.values())

    def deaf(self, now: float) -> bool:
        """Leader: we are heard, perhaps, but hear nobody, so we can commit nothing (check quorum, Raft thesis §6.2)."""
        return not self.hears_quorum(now, DEAF_AFTER * self.timing.detection)

    def hears(self, other: str, now: float, within: float = 0.0) -> bool:
        """Lately enough for a member with its timing, or ``within`` if that is longer."""
        return now - self.last_heard[other] < max(within, self.timings.patience(other))

    def hears_leader(self, now: float, within: float = 0.0) -> bool:
        """As :meth:`hears`, of what it said as the leader, or the last one did."""
        return now - self._leader_heard < max(within, self.timings.patience(self.leader))

    # ---- the members' side ------------------------------------------------------------------------
    def receive(self, now: float, src: str, message: wire.Message) -> None:
        """Handle one message; raises WireError if it is malformed, InvariantViolation if we must stop."""
        if src not in self.others:
            raise WireError(f"message from unknown member {src!r}")
        handler = self._HANDLERS.get(type(message))
        if handler is None:
            raise WireError(f"{type(message).__name__} is no consensus message")
        self.last_heard[src] = now
        if self.amnesia is None or self._recovers(now, src, message):
            handler(self, now, src, message)

    def _on_leader_message(self, now: float, src: str, view: int) -> bool:
        """True if ``src`` leads ``view`` and we follow it."""
        if view < self.view:
            # Tell a late leader which view it is; it steps down.
            self._send(src, wire.AppendAck(self.view, self.log.last_index, False))
            return False
        if view == self.view and self.role == LEADER:
            raise InvariantViolation(f"two leaders in view {view}: {self.me} and {src}")
        if view > self.view or self.leader != src:
            self._adopt(now, view, src)
        self._leader_heard = now
        return True

    def _on_heartbeat(self, now: float, src: str, m: wire.Heartbeat) -> None:
        if not self._on_leader_message(now, src, m.view):
            return
        self._store_record(m)
        self.truncate_index = max(self.truncate_index, m.truncate)
        self.log.truncate(min(m.truncate, self._agreed_index))  # beyond that it may be the tail of an older leader
        self._send(src, wire.HeartbeatAck(self.view, m.seq, self.log.last_index, *self.record.order))

    def _on_propose_record(self, now: float, src: str, m: wire.ProposeRecord) -> None:
        if self._on_leader_message(now, src, m.view):
            self._store_record(m)
            self._send(src, wire.HeartbeatAck(self.view, 0, self.log.last_index, *self.record.order))

    def _on_heartbeat_ack(self, now: float, src: str, m: wire.HeartbeatAck) -> None:
        if m.view > self.view:
            self._adopt(now, m.view, None)
        if self.role != LEADER or m.view != self.view:
            return
        self.answered_at[src] = now
        self._end_alone()
        self._confirmed(m.seq)
        if (m.record_view, m.record_version) == self.record.order and not self.record_committed and \
                self.record.in_sync <= {self.me, src}:
            # A replica that joins the set must itself know that it did, or it could not take over from us.
            self._record_stored()
        mark = self._marks[src]
        if mark and m.seq >= mark[0]:
            self._marks[src] = None
            if m.last_index < mark[1] and self._sent_index[src] is not None:
                self._sent_index[src] = None  # what went before that heartbeat did not arrive
        if self._sent_index[src] is None:
            held = m.last_index
            self._sent_index[src] = held if self.log.view_at(held) is not None else -1
            self._replicate(src)

    def _on_append(self, now: float, src: str, m: wire.Append) -> None:
        if not self._on_leader_message(now, src, m.view):
            return
        entries = unpack(m.payload)
        if entries and entries[0].index != m.prev_index + 1:
            raise WireError(f"entries start at {entries[0].index}, announced after {m.prev_index}")
        agreed = self._agreed_index
        ok = m.prev_index <= agreed or self.log.view_at(m.prev_index) == m.prev_view
        if m.reset and not ok:
            self.log.reset(m.prev_index, m.prev_view)
            ok = True
        if ok:
            self.log.take_in(entries, agreed)
            agreed = max(agreed, m.prev_index + len(entries))
            if sum(len(entry.payload) for entry in entries) < APPEND_BYTES_MAX:
                # That was all its leader had: what we hold beyond is an older one's tail, and was never committed.
                self.log.cut_after(agreed)
            self._agreed, self.commit_index = (self.view, agreed), agreed
        self._send(src, wire.AppendAck(self.view, agreed if ok else self.log.last_index, ok))

    @property
    def _agreed_index(self) -> int:
        """Our log up to there is a part of our leader's; -1 if that is not known yet."""
        return self._agreed[1] if self._agreed[0] == self.view else -1

    def _on_append_ack(self, now: float, src: str, m: wire.AppendAck) -> None:
        if m.view > self.view:
            self._adopt(now, m.view, None)
        if self.role != LEADER or m.view != self.view:
            return
        self.answered_at[src] = now
        self._end_alone()
        if not m.ok:
            self._sent_index[src] = -1
        else:
            self._held_by(src, m.last_index)
        self._replicate(src)

    def stored(self, src: str, view: int, last_index: int, seq: int) -> None:
        """Leader: the network card says that heartbeat ``seq`` and the log up to ``last_index`` are in ``src``'s memory.

        It had not left our view when they landed (consensus/one_sided.py), so that counts as its acknowledgement; but it does not tell
        that ``src`` is alive.
        """
        if self.role == LEADER and view == self.view:
            self._confirmed(seq)
            self._held_by(src, last_index)
            self._replicate(src)

    def _confirmed(self, seq: int) -> None:
        self.confirmed_seq = max(self.confirmed_seq, min(seq, self.seq))
        while self._beats and self._beats[0][0] <= self.confirmed_seq:
            self._confirmed_at = self._beats.popleft()[1]

    def _held_by(self, src: str, last_index: int) -> None:
        self.acked_index[src] = max(self.acked_index[src], last_index)
        # Leader + one follower = quorum. Only entries of this view are committed by counting (Raft §5.4.2).
        reached = min(last_index, self.log.last_index)
        if reached > self.commit_index and self.log.view_at(reached) == self.view:
            self.commit_index = reached

    def _end_alone(self) -> None:
        """Another member acknowledged our view: a quorum is needed again, for the record too."""
        if self.alone:
            self.alone = self.record_committed = False

    def _record_stored(self) -> None:
        self.record_committed = True
        self._out.append(RecordCommitted(self.record))

    # ---- helpers ------------------------------------------------------------------------------------
    def _adopt(self, now: float, view: int, leader: str | None, persist: bool = True) -> None:
        """Enter ``view`` (or learn who leads it)."""
        if view > self.view:
            self.seal(now)
        was_leader = self.role == LEADER
        if view < self.view or (was_leader and view == self.view):
            raise InvariantViolation(f"view went from {self.view} to {view}")
        if view > self.view:
            self.view, self.voted_for = view, None
            if persist:
                self._persist()
        self.role, self.leader, self.alone = FOLLOWER, leader, False
        self._votes = set()
        self._out.append(Deposed(view, leader, was_leader))

    def _store_record(self, m: wire.Heartbeat | wire.ProposeRecord) -> None:
        record = Record(m.record_view, m.record_version, self._set_of(m.record_in_sync))
        if record.order > self.record.order:
            self.record = record
            self._persist()

    def _heartbeat(self, now: float) -> None:
        self.seq += 1
        self._next_heartbeat = now + self.timing.heartbeat
        self._beats.append((self.seq, now))
        for other in self.others:
            if self._marks[other] is None and self._sent_index[other] is not None:
                self._marks[other] = (self.seq, self._sent_index[other])
            self._send(other, wire.Heartbeat(self.view, self.seq, self.truncate_index, *self._record_fields()))

    def _replicate(self, other: str) -> None:
        """Send what ``other`` lacks, at most about APPEND_BYTES_MAX at once; nothing while that is unknown."""
        sent = self._sent_index[other]
        if sent is None or sent >= self.log.last_index:
            return
        reset = sent < self.log.base_index
        sent = self.log.base_index if reset else sent
        key = (self.view, sent, reset, self.log.last_index)
        if key != self._append_key:  # mostly the others lack the same: it is packed once
            self._append_key, self._append = key, self._append_after(sent, reset)
        message, self._sent_index[other] = self._append
        self._send(other, message)

    def _append_after(self, sent: int, reset: bool) -> tuple[wire.Append, int]:
        """The message that carries entries after ``sent``, and the index of the last in it."""
        entries, size = [], 0
        for entry in self.log.after(sent):
            entries.append(entry)
            size += len(entry.payload)
            if size >= APPEND_BYTES_MAX:
                break
        view = self.log.view_at(sent)
        if view is None:
            raise InvariantViolation(f"no entry {sent} to replicate from; log starts at {self.log.base_index}")
        return wire.Append(self.view, sent, view, reset, pack(entries)), entries[-1].index if entries else sent

    def _record_fields(self) -> tuple[int, int, int]:
        mask = sum(1 << self._order.index(m) for m in self.record.in_sync)
        return (self.record.view, self.record.version, mask)

    def _set_of(self, mask: int) -> frozenset[str]:
        if mask >> len(self._order):
            raise WireError(f"in-sync mask {mask:#x} names members that do not exist")
        return frozenset(m for i, m in enumerate(self._order) if mask >> i & 1)

    def _persist(self) -> None:
        self._out.append(Persist(Durable(self.view, self.voted_for, self.record)))

    def _send(self, to: str, message: wire.Message) -> None:
        self._out.append(Send(to, message))

    def _need_leader(self) -> None:
        if self.role != LEADER:
            raise InvariantViolation(f"{self.me} acts as leader but is {self.role} in view {self.view}")

    _HANDLERS = {
        wire.Heartbeat: _on_heartbeat,
        wire.HeartbeatAck: _on_heartbeat_ack,
        wire.ProposeRecord: _on_propose_record,
        wire.Append: _on_append,
        wire.AppendAck: _on_append_ack,
        wire.VoteRequest: Elections._on_vote_request,
        wire.VoteReply: Elections._on_vote_reply,
    }
