# SPDX-License-Identifier: GPL-3.0-or-later
"""Elections, records and the log broken on purpose: what members promise and keep."""

from __future__ import annotations

from plover.consensus.amnesia import Amnesia
from plover.consensus.consensus import Consensus
from plover.consensus.durable import Durable
from plover.consensus.effects import LEADER, Persist
from plover.consensus.group import Group
from plover.consensus.hearsay import Hearsay
from plover.consensus.log import unpack
from plover.consensus.one_sided import OneSided
from plover.consensus.promises import Promises
from plover.consensus.votes import Votes
from plover.core.leader import Leader
from plover.host.store import Store
from plover.protocol import wire

from .registry import mutant


class _Forgetful:
    """The disk's operations; files with the suffix ``skipped`` are not synced."""

    def __init__(self, files, skipped: str) -> None:
        self._files, self._skipped = files, skipped

    def __getattr__(self, name: str):
        return getattr(self._files, name)

    def sync(self, path) -> None:
        if path.suffix != self._skipped:
            self._files.sync(path)


def _save_without_sync(suffix: str) -> None:
    good = Store.save

    def save(self, state):
        files, self._files = self._files, _Forgetful(self._files, suffix)
        try:
            good(self, state)
        finally:
            self._files = files

    Store.save = save


@mutant("view, vote and record are written and renamed, but the folder is not synced")
def vote_not_fsynced() -> None:
    _save_without_sync("")


@mutant("the file with view, vote and record is not synced before it is renamed")
def torn_state_file() -> None:
    _save_without_sync(".new")


@mutant("messages are sent before their promises are on disk")
def send_before_persist() -> None:
    good = Consensus.take

    def take(self):
        return sorted(good(self), key=lambda item: isinstance(item, Persist))

    Consensus.take = take


def _without_own_checks() -> None:
    """Consensus would stop such a member itself. The onlooker must see it as well."""

    def change(self, new):
        self.view, self.voted_for, self.record = new
        self._persist(new)

    Promises._change = change
    Consensus.check_invariants = lambda self: None


@mutant("the witness stands for election, and is voted for")
def witness_leads() -> None:
    stand, refusal = Votes.may_stand, Votes.refusal
    Votes.may_stand = lambda self: not self._group.is_replica(self._group.me) or stand(self)

    def lenient(self, now, src, m):
        why = refusal(self, now, src, m)
        silent = now - self._seat.silent_since > self._timing.detection
        return None if silent and not self._group.is_replica(src) else why

    Votes.refusal = lenient
    _without_own_checks()


@mutant("a vote does not look at the candidate's in-sync record")
def stale_member_elected() -> None:
    good = Votes.refusal

    def refusal(self, now, src, m):
        why = good(self, now, src, m)
        return None if why in ("its in-sync record is older than mine", "it is not in the in-sync set") else why

    Votes.refusal = refusal
    Votes.may_stand = lambda self: self._group.is_replica(self._group.me) and self._seat.eligible
    _without_own_checks()


@mutant("a member votes for every candidate, even twice in a view")
def votes_twice() -> None:
    good, may_stand = Votes.refusal, Votes.may_stand

    def refusal(self, now, src, m):
        why = good(self, now, src, m)
        taken = why == "the view is taken" and m.view == self._promises.view and self._seat.role != LEADER
        return None if taken else why

    Votes.refusal = refusal
    Votes.may_stand = lambda self: may_stand(self) or (self._group.is_replica(self._group.me) and self._seat.role != LEADER)
    _without_own_checks()


@mutant("a deposed leader goes on")
def deposed_leader_goes_on() -> None:
    Leader.suspend = lambda self: None
    good = Consensus.step_down

    def step_down(self, view, leader):
        was = self.role
        good(self, view, leader)
        if was == LEADER:
            self.role = LEADER

    Consensus.step_down = step_down
    _without_own_checks()


@mutant("a member whose state folder is empty takes part as a new one would")
def empty_folder_votes() -> None:
    good = Store.begin
    Store.begin = lambda self: good(self) or Durable()


@mutant("a state folder that came back from a backup counts as if it had never been away")
def old_backup_votes() -> None:
    Store.is_copy = False


@mutant("a refused candidate is not told that a newer record names it")
def refusal_tells_nothing() -> None:
    Group.packed = lambda self, record: b""


@mutant("what a witness says counts, whatever it is")
def senders_not_checked() -> None:
    Consensus.check_sender = lambda self, src, message: None


@mutant("a leader believes the witness alone that there is a later view")
def witness_deposes() -> None:
    Consensus.with_other_replica = lambda self, now: False


@mutant("a member enters a later view as soon as somebody speaks of one")
def hearsay_believed() -> None:
    good = Hearsay.note

    def note(self, src, view, record):
        good(self, src, view, record)
        if view > self._promises.view:
            self._promises.enter(view)

    Hearsay.note = note


@mutant("a member that has forgotten everything believes the first leader it hears")
def forgets_and_believes() -> None:
    Amnesia.heard = lambda self, src, m: isinstance(m, wire.Heartbeat) and m.view > 0


@mutant("a follower acknowledges a record that it keeps in memory only")
def record_not_on_disk() -> None:
    def store(self, m):
        self.promises.record = max(self.group.record_of(m), self.record, key=lambda record: record.order)

    Consensus._store_record = store


@mutant("a member acknowledges heartbeats of a view that it has left")
def view_not_checked_on_ack() -> None:
    good = Consensus._on_heartbeat

    def on_heartbeat(self, now, src, m):
        if m.view < self.view:
            self.send(src, wire.HeartbeatAck(m.view, m.seq, self.log.last_index, m.record_view, m.record_version))
        else:
            good(self, now, src, m)

    Consensus._HANDLERS = {**Consensus._HANDLERS, wire.Heartbeat: on_heartbeat}


@mutant("a follower keeps entries of an older leader beside those of the new one")
def log_conflicts_kept() -> None:
    def on_append(self, now, src, m):
        if self._on_leader_message(now, src, m.view):
            for entry in unpack(m.payload):
                if entry.index == self.log.last_index + 1:
                    self.log.append(entry)
            self.commit_index = self.log.last_index
            self.send(src, wire.AppendAck(self.view, self.log.last_index, True))

    Consensus._HANDLERS = {**Consensus._HANDLERS, wire.Append: on_append}


@mutant("with RDMA: a voter leaves the old leader its write permission")
def permission_kept() -> None:
    OneSided.seal = lambda self, now: None


@mutant("with RDMA: entries that landed before the permission was revoked are not counted")
def landed_not_read() -> None:
    def end_grant(self, leader):
        if self.grants.pop(leader, None):
            self.card.revoke(leader)

    OneSided._end_grant = end_grant
