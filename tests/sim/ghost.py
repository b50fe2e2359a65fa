# SPDX-License-Identifier: GPL-3.0-or-later
"""The onlooker sees all members and checks the invariants 1 to 6 of docs/ARCHITECTURE.md after every step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plover.consensus.consensus import Consensus
from plover.consensus.durable import Durable, Record
from plover.consensus.effects import LEADER
from plover.protocol import wire

from . import guest, speech
from .speech import Heard

if TYPE_CHECKING:
    from .member import Member
    from .replica import ReplicaMember
    from .world import World


LOGS_LOST_S = 1.0
_SAYS = {
    True: "answered operation {heard.operation} of connection {heard.connection}",
    False: "acknowledged operation {heard.operation} of connection {heard.connection}",
}


class Violation(Exception):
    """An invariant was broken."""


class Ghost:
    def __init__(self, world: World) -> None:
        self.world = world
        self.strict_voice = True  # off where clocks jump: then an old voice may end late, though never say what is lost
        self.acked: dict[int, Heard] = {}  # connection -> the last answer that a client saw
        self.closed: set[int] = set()  # connections whose end a client saw
        self.forgotten = False  # the VM's state was lost on all hosts and the operator booted it afresh
        self.forced = False  # the operator had one lead without a quorum: two may lead, and what one said may be lost
        self._leaders: dict[int, str] = {}
        self._votes: dict[tuple[int, str], str | None] = {}
        self._durable: dict[str, Durable] = {}
        self._promised: dict[str, Record] = {}  # the newest that each member ever stored, forgotten since or not
        self._entries: dict[tuple[int, int], tuple] = {}
        self._logs: dict[str, tuple] = {}
        self._voices: dict[int, str] = {}
        self._last_view = 0
        self._started_at = 0.0  # when a daemon started last: what it had acknowledged before is gone
        self._newest = (0, 0)  # view and index of it
        self._committed: tuple[int, int] | None = None  # (index, view) that the last leader counted as committed last

    def fail(self, text: str) -> None:
        raise Violation(text)

    # ---- invariant 3: views, votes ------------------------------------------------------------------
    def persisted(self, name: str, state: Durable) -> None:
        """``name`` has ``state`` on its disk."""
        self._check_durable(name, state)

    def votes(self, name: str, to: str, m: wire.VoteRequest | wire.VoteReply) -> None:
        """``name`` gives its vote away: to itself, or in its answer."""
        if m.pre or (isinstance(m, wire.VoteReply) and not m.granted):
            return
        candidate = to if isinstance(m, wire.VoteReply) else name
        durable = self._durable.get(name, Durable())
        if durable.view != m.view or durable.voted_for != candidate:
            self.fail(f"{name} votes for {candidate} in view {m.view}, but on its disk is {durable}")

    def _check_durable(self, name: str, state: Durable) -> None:
        before = self._durable.get(name)
        if before and (state.view < before.view or state.record.order < before.record.order):
            self.fail(f"{name}'s durable state went back: {before} -> {state}")
        if state.voted_for:
            if self._votes.setdefault((state.view, name), state.voted_for) != state.voted_for:
                self.fail(f"{name} voted for {self._votes[state.view, name]} and {state.voted_for} in view {state.view}")
        self._durable[name] = state
        self._promised[name] = max(state.record, self._promised.get(name, Record()), key=lambda record: record.order)

    def forgets(self, name: str) -> None:
        """Its disk is emptied. Promises that others know of still bind it; promises that nobody heard of bind nobody."""
        self._durable.pop(name, None)
        known = max(state.view for state in self._durable.values())
        self._votes = {key: to for key, to in self._votes.items() if key[0] <= known or key[1] != name or to != name}
        self._entries = {key: entry for key, entry in self._entries.items() if key[0] <= known}

    def started(self, name: str, state: Durable | None) -> None:
        """A daemon starts with ``state``, which must contain all its earlier promises."""
        if state is not None:
            self._check_durable(name, state)
        self._started_at = self.world.loop.now
        self._committed = None  # until the leader commits more: what this member held is gone, logs are in memory

    # ---- after each event ---------------------------------------------------------------------------
    def after_step(self, member: Member) -> None:
        cons, name = member.consensus, member.name
        view = cons.view
        if cons.role == LEADER:
            self._check_committed(name, cons)
            if self._leaders.setdefault(view, name) != name:
                self.fail(f"two leaders of view {view}: {self._leaders[view]} and {name}")
            if cons.members[name] != "replica":
                self.fail(f"{name}, the witness, leads view {view}")
        durable = self._durable.get(name)
        if durable is not None and view < durable.view:
            self.fail(f"{name} acts in view {view}, older than its durable state")
        self._check_log(name, cons.log)

    def _check_committed(self, name: str, cons: Consensus) -> None:
        """Paxos' promise: while no daemon restarts, a leader has all entries that its predecessor counted as committed."""
        if cons.view not in self._leaders and self._committed and not (self.forced or self.forgotten):
            index, view = self._committed
            held = cons.log.view_at(index)
            if cons.view > view and (cons.log.last_index < index or (held is not None and held < view)):
                self.fail(
                    f"{name} leads view {cons.view} without entry {index}, which was committed in view {view}; its "
                    f"log ends at {cons.log.last_index}"
                )
        newest = (cons.view, cons.commit_index)
        if newest > self._newest and cons.log.view_at(cons.commit_index) == cons.view and not cons.alone:
            self._newest = newest
            self._committed = newest[::-1]
            self._check_held(name, *self._committed)

    def _check_held(self, leader: str, index: int, view: int) -> None:
        """A quorum is the leader and one other member, with the entry in its log or in the memory that the leader writes."""
        others = [m for name, m in self.world.members.items() if name != leader]
        lately = max(self._started_at, self.world.network.lossy_at)
        if any(m.dead for m in others) or self.world.loop.now - lately < LOGS_LOST_S or self.forced:
            return
        for member in others:
            log = member.consensus.log
            held = log.last_index if log.view_at(index) == view or log.base_index >= index else 0
            if max(held, member.one_sided.card.last_landed(leader) if member.one_sided else 0) >= index:
                return
        self.fail(f"{leader} counts entry {index} of view {view} as committed, which nobody else has")

    def _check_log(self, name: str, log) -> None:
        """Invariant 1: an entry of one view and index is the same everywhere, and so is the one before it."""
        seen = (log.last_index, log.last_view)
        if self._logs.get(name) == seen:
            return
        self._logs[name] = seen
        previous = log.base_view
        for entry in log.after(log.base_index):
            what = (entry.kind, entry.payload, previous if entry.index > log.base_index + 1 else None)
            known = self._entries.setdefault((entry.view, entry.index), what)
            if known is not what and (known[:2] != what[:2] or (None not in (known[2], what[2]) and known[2] != what[2])):
                self.fail(f"{name}'s log has another entry {entry.index} of view {entry.view} than another member's")
            if known[2] is None:
                self._entries[entry.view, entry.index] = what
            previous = entry.view

    # ---- invariants 2, 3: what leaves the host --------------------------------------------------------
    def speaks(self, member: ReplicaMember) -> None:
        """A frame with the VM's address leaves the host."""
        view = member.consensus.view
        if self._voices.setdefault(view, member.name) != member.name:
            self.fail(f"two voices in view {view}: {self._voices[view]} and {member.name}")
        if view < self._last_view and self.strict_voice and not self.forced:
            self.fail(f"{member.name} speaks in view {view} after view {self._last_view} has spoken")
        self._last_view = max(self._last_view, view)

    def emitted(self, member: ReplicaMember, frames: list[bytes]) -> None:
        """Output leaves: each member that could lead next must have all operations that it answers."""
        self.speaks(member)
        other = self.world.members[member.other]
        if self.forced or not self._electable(other):
            return
        for heard in map(speech.hear, frames):
            lacks = self._lacks(other.memory.qemu.ram, heard)
            if lacks:
                self.fail(f"{member.name} {_SAYS[heard.answers]}, but {other.name} could be elected {lacks}".format(heard=heard))

    @staticmethod
    def _lacks(ram: list[int], heard: Heard) -> str:
        """How a VM with this memory does not stand by what a client may have heard; empty if it does."""
        page = ram[guest.CONNECTION0 + heard.connection]
        if speech.operation_of(page) < heard.operation:
            return "without it"
        if speech.first_of(page) != heard.first:
            return "and numbers that connection otherwise"
        if heard.ends and not page & speech.CLOSED:
            return "and has not closed that connection"
        same = speech.operation_of(page) > heard.operation or not heard.answers or speech.words_of(page) == heard.words
        return "" if same else "and answers it in other words"

    def _electable(self, other: ReplicaMember) -> bool:
        """Could ``other`` lead next, from the state it has?"""
        if other.dead or other.vm is None or other.memory.qemu is None or not other.consensus.eligible:
            return False
        promised = self._promised.get("witness", Record())
        record = other.consensus.record
        return other.name in record.in_sync and record.order >= promised.order

    # ---- invariant 5: who serves has everything that was answered --------------------------------------
    def serves(self, member: ReplicaMember) -> None:
        self._last_view = max(self._last_view, member.consensus.view)
        if self.forgotten or self.forced:
            return
        ram = member.memory.ram
        for heard in self.acked.values():
            lacks = self._lacks(ram, heard._replace(ends=heard.connection in self.closed))
            if lacks:
                self.fail(
                    f"{member.name} serves in view {member.consensus.view} {lacks}: operation {heard.operation} of "
                    f"connection {heard.connection}, which was answered"
                )
