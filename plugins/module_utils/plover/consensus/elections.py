# SPDX-License-Identifier: GPL-3.0-or-later
"""Who leads next: the votes' part of :class:`plover.consensus.consensus.Consensus` (its rules are in that file). Sans-I/O."""
from __future__ import annotations

from ..errors import WireError
from ..protocol import wire
from .amnesia import LATELY_S, QUESTION, is_question
from .durable import Record
from .effects import CANDIDATE, FOLLOWER, LEADER, Elected
from .log import pack, unpack


class Elections:
    """Votes asked for, given and counted, over the state of Consensus."""

    def _may_stand(self) -> bool:
        if self.members[self.me] != "replica" or not self.eligible or self.amnesia:
            return False
        return self.me in self.record.in_sync or self.record.version == 0

    @property
    def _apart(self) -> float:
        """Longer patience after a try that failed, another for each member: else two that stand in step, and of whom each votes
        for itself, would do so for ever while the third does not vote (Raft §5.2 draws lots; the core has none)."""
        return self._order.index(self.me) * self.timing.election / 2 if self.role == CANDIDATE else 0.0

    def _ask(self, now: float, pre: bool, transfer: bool) -> None:
        if not pre:
            heard = self._leader_heard
            self.seal(now)
            if not self._may_stand() or (self._leader_heard != heard and not transfer):
                return  # what had landed says that we are not needed
        self._pre = pre
        self._votes = {self.me}
        self._deadline = now + (self.timing.heartbeat if pre else self.timing.election + self._apart)
        view = self.view + 1
        # A leader that hands over has taken in frames that nobody else holds; they come with its vote: ask it alone.
        asked = (self.leader,) if transfer and self.leader in self.others else self.others
        if not pre:
            self.view, self.voted_for, self.role, self.leader = view, self.me, CANDIDATE, None
            self._persist()
        for other in asked:
            self._send(other, wire.VoteRequest(view, pre, transfer, *self._record_fields(),
                                               self.log.last_view, self.log.last_index))

    # ---- without memory (consensus/amnesia.py) --------------------------------------------------------------------
    def _ask_what_we_forgot(self, now: float) -> None:
        if now >= self._deadline:
            self._deadline = now + self.timing.heartbeat
            for other in self.others:
                self._send(other, QUESTION)

    def _recovers(self, now: float, src: str, m: wire.Message) -> bool:
        """Whether ``m`` ends our amnesia. Until then nothing is answered: nothing of ours may count."""
        if isinstance(m, wire.VoteRequest) and is_question(m):
            self.forgetful[src] = now
        if isinstance(m, wire.Heartbeat):
            self._leader_heard = now
        if not self.amnesia.heard(src, m):
            return False
        self.record = Record(m.record_view, m.record_version, self._set_of(m.record_in_sync))
        self.amnesia = None
        self._adopt(now, m.view, src)
        return True

    def forgot(self, now: float) -> list[str]:
        """Others that said lately that they have forgotten all."""
        return [other for other in self.others if now - self.forgetful.get(other, float("-inf")) < LATELY_S]

    def forgotten(self, now: float) -> str:
        """What a person is told of our amnesia; empty without one."""
        return self.amnesia.describe(self.forgot(now)) if self.amnesia else ""

    # ---- votes ------------------------------------------------------------------------------------------
    def _refusal(self, now: float, src: str, m: wire.VoteRequest) -> str | None:
        """Why ``src`` does not get this vote; None if it does."""
        candidate = Record(m.record_view, m.record_version, self._set_of(m.record_in_sync))
        if self.members[src] != "replica":
            return "the witness never leads"
        if candidate.order < self.record.order:
            return "its in-sync record is older than mine"
        if candidate.version and src not in candidate.in_sync:
            return "it is not in the in-sync set"
        if m.view < self.view or (m.view == self.view and self.voted_for != src):
            return "the view is taken"
        hears = self.role == LEADER or self.hears_leader(now)
        if not m.transfer and hears and self.leader != src:
            return "the leader is alive"
        return None

    def _on_vote_request(self, now: float, src: str, m: wire.VoteRequest) -> None:
        if is_question(m):
            self.forgetful[src] = now
            if self.leader == src:
                self.leader = None  # no more: it does not know that it led
            self._send(src, wire.VoteReply(self.view, True, False, self.alone, 0, 0))
            return
        granted = self._refusal(now, src, m) is None
        if granted and not m.pre:
            self.seal(now)
            granted = self._refusal(now, src, m) is None  # what had landed may speak against it
        if granted and not m.pre:
            if m.view > self.view:
                self._adopt(now, m.view, None, persist=False)
            self.voted_for, self.transfer_granted = src, m.transfer
            self._deadline = now + self.timing.election  # we do not stand against whom we have just voted for
            self._persist()
        ahead = granted and not m.pre and (self.log.last_view, self.log.last_index) > (m.last_view, m.last_index)
        start = m.last_index if self.log.view_at(m.last_index) == m.last_view else self.log.base_index
        # A refusal tells the voter's own view, so that a candidate that fell behind catches up.
        self._send(src, wire.VoteReply(m.view if granted else self.view, m.pre, granted, ahead, start,
                                       self.log.view_at(start) or 0, pack(self.log.after(start)) if ahead else b""))

    def _on_vote_reply(self, now: float, src: str, m: wire.VoteReply) -> None:
        if not m.granted and m.view > self.view:
            self._adopt(now, m.view, None)
            return
        asked = self.view + 1 if self._pre else self.view
        if not m.granted or m.pre != self._pre or m.view != asked or self.role == LEADER or src in self._votes:
            return
        if not self._pre and self.role != CANDIDATE:
            return
        self._votes.add(src)
        if len(self._votes) * 2 <= len(self.members):
            return
        if self._pre:
            if self._may_stand():
                self._ask(now, pre=False, transfer=False)
            return
        if not self._may_stand():  # the VM's state was lost here while the votes were on their way
            self.role = FOLLOWER
            return
        if m.ahead:
            self._take_over_log(m)
        self._win(now)

    def _take_over_log(self, m: wire.VoteReply) -> None:
        """Entries the voter holds and we lack may be committed: they become ours (Paxos)."""
        entries = unpack(m.payload)
        if entries and entries[0].index != m.from_index + 1:
            raise WireError(f"vote with entries from {entries[0].index}, announced after {m.from_index}")
        if self.log.view_at(m.from_index) == m.from_view:
            self.log.cut_after(m.from_index)
        else:
            self.log.reset(m.from_index, m.from_view)
        for entry in entries:
            self.log.append(entry)

    def _win(self, now: float) -> None:
        self.role, self.leader = LEADER, self.me
        self.commit_index = self.log.last_index  # held by a voter too, or by us and the old leader
        self.truncate_index = self.log.base_index  # not one of a fork that a forced leader ended
        self._sent_index = dict.fromkeys(self.others)
        self.acked_index = dict.fromkeys(self.others, 0)
        self.answered_at = dict.fromkeys(self.others, now)
        self.seq = self.confirmed_seq = 0
        self.alone = False
        self._beats.clear()
        self._confirmed_at = float("-inf")
        self._marks = dict.fromkeys(self.others)
        self.record_committed = False
        self._next_heartbeat = now
        self._out.append(Elected(self.view))
