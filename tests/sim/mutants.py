# SPDX-License-Identifier: GPL-3.0-or-later
"""python3 -m tests.sim.mutants [--seeds N] [--note] [NAME ...]: can the simulator fail? Each variant of the code here is broken on
purpose, in one place; each must be caught. Nothing but this file can switch them on.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import sys
from array import array
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from plover.consensus.amnesia import Amnesia
from plover.consensus.consensus import Consensus
from plover.consensus.durable import Durable
from plover.consensus.effects import LEADER, Persist
from plover.consensus.log import unpack
from plover.consensus.one_sided import OneSided
from plover.consensus.promises import Promises
from plover.consensus.votes import Votes
from plover.core import cold_start, routes, shell_policy, transitions
from plover.core.director import Director
from plover.core.follower import Follower
from plover.core.guard import Guard
from plover.core.leader import Leader
from plover.core.output_commit import OutputCommit
from plover.core.own_disks import OwnDisks
from plover.core.reprotection import Reprotection
from plover.dataplane.last_output import LastOutput
from plover.disks.local_images import LocalImages
from plover.host.store import Store
from plover.ports import effects
from plover.protocol import wire
from plover.protocol.packing import unpack_state
from plover.syncvm.initial_sync import LeaderInitialSync
from plover.syncvm.initial_sync_check import LeaderCheck
from plover.syncvm.leader import LeaderSyncvm
from plover.syncvm.secondary import SecondarySyncvm
from plover.syncvm.staging import Staging, chain_digest

from .disk_work import DiskWork
from .host import Host
from .replica import ReplicaMember
from .run import run

SEEDS = 5000
KNOWN = Path(__file__).with_name("mutants.json")
MUTANTS: dict[str, tuple[str, Callable[[], None]]] = {}


def mutant(text: str):
    def add(switch_on: Callable[[], None]) -> Callable[[], None]:
        MUTANTS[switch_on.__name__.replace("_", "-")] = (text, switch_on)
        return switch_on

    return add


@mutant("output leaves when the VM has stopped, not when the secondary holds the syncvm")
def release_before_ack() -> None:
    good, release = Leader.syncvm_stopped, Guard.release

    def syncvm_stopped(self):
        good(self)
        self.core.emit(effects.Emit(release(self.guard, self.output_commit._sync_mark)))

    Leader.syncvm_stopped = syncvm_stopped
    Guard.release = lambda self, mark: release(self, mark) if self._marks else []


class _Forgetful:
    """The disk's operations, but what ``skipped`` says is not synced."""

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


@mutant("messages are sent before what they promise is on disk")
def send_before_persist() -> None:
    good = Consensus.take

    def take(self):
        return sorted(good(self), key=lambda item: isinstance(item, Persist))

    Consensus.take = take


@mutant("the secondary writes pages into guest memory as they come")
def apply_while_receiving() -> None:
    good = Staging._keep

    def keep(self, index, data, payload):
        good(self, index, data, payload)
        self._memory.apply(index, data)

    Staging._keep = keep


def _without_own_checks() -> None:
    """Consensus would stop such a member itself; the onlooker must see it as well."""

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


@mutant("a member whose state folder is empty takes part as a new one would")
def empty_folder_votes() -> None:
    good = Store.begin
    Store.begin = lambda self: good(self) or Durable()


@mutant("a member that has forgotten all believes the first leader that it hears")
def forgets_and_believes() -> None:
    Amnesia.heard = lambda self, src, m: isinstance(m, wire.Heartbeat) and m.view > 0


@mutant("a leader that lost its secondary goes on alone without recording the smaller in-sync set")
def in_sync_set_not_recorded() -> None:
    Leader.held_for_syncvm = property(lambda self: self.protected or bool(self.fill is not None and self.fill.holds_output))
    good = Consensus.propose_record

    def propose_record(self, in_sync):
        if self.record.view != self.view or len(in_sync) > 1:
            good(self, in_sync)

    Consensus.propose_record = propose_record


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


@mutant("a leader without a secondary speaks without asking a quorum")
def quorum_not_asked() -> None:
    def ask(self, mark, tries):
        self._confirm = None
        self._core.emit(effects.Emit(self._guard.release(mark)))

    OutputCommit._ask_quorum = ask


@mutant("a member votes for whoever asks, twice in a view if need be")
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


@mutant("a leader that was hung speaks before it asks whether it still leads")
def hung_leader_speaks() -> None:
    Consensus.fresh = lambda self, now: True


@mutant("what was decided before a stop leaves after it")
def stopped_leader_speaks() -> None:
    shell_policy.in_time = lambda now, until: True


@mutant("the digest of what was staged is not compared")
def digest_not_checked() -> None:
    good = Staging.on_end

    def on_end(self, m):
        state = unpack_state(self._memory, m.payload, m.size, self._base if m.base else b"") if self.makes(m) else b""
        return good(self, replace(m, digest=chain_digest(self._memory, self.digest, state)))

    Staging.on_end = on_end


@mutant("a page that was patched with blocks is not compared with the leader's hash of it")
def patched_page_not_verified() -> None:
    good = Staging.on_blocks

    def on_blocks(self, m):
        memory, self._memory = self._memory, _Believing(self._memory)
        good(self, m)
        self._memory = memory

    Staging.on_blocks = on_blocks


class _Other:
    """Memory, but for what a derived class does otherwise."""

    def __init__(self, memory) -> None:
        self._memory = memory

    def __getattr__(self, name: str):
        return getattr(self._memory, name)


class _Believing(_Other):
    def compare(self, a, b, index):
        return index[:0]


@mutant("pages that are asked for again are read from memory, where the leader's VM runs on, not from the copy")
def resent_from_memory() -> None:
    LeaderSyncvm._copied = lambda self, index: self._memory.gather(index)


@mutant("only the leader's dirty pages are compared")
def peer_bitmap_ignored() -> None:
    for cls in (LeaderSyncvm, SecondarySyncvm):

        def exchanged(self, good=cls._exchanged, leads=cls is LeaderSyncvm):
            if self._own is not None and self._peer is not None:
                mine = self._own if leads else self._peer.payload
                memory, self._memory = self._memory, _OneSided(self._memory, mine)
                out = good(self)
                self._memory = memory
                return out
            return good(self)

        cls._exchanged = exchanged


class _OneSided(_Other):
    def __init__(self, memory, bitmap) -> None:
        super().__init__(memory)
        self._bitmap = bytes(bitmap)

    def union(self, a, b):
        return self._memory.pages_of(self._bitmap)


@mutant("an abandoned syncvm does not put its dirty pages back")
def dirty_pages_forgotten() -> None:
    LeaderSyncvm.abandon = SecondarySyncvm.abandon = lambda self: None


@mutant("output is not held in the last steps of a fill")
def fill_does_not_hold_output() -> None:
    LeaderInitialSync.holds_output = property(lambda self: False)


@mutant("with a disk, the leader's VM runs on while the secondary loads")
def writes_before_load() -> None:
    def loading(self, sync):
        self.disks = False
        sync.loading_since = self.core.now
        self._resume_after(sync)

    Leader._loading = loading


@mutant("with a disk, the leader's VM runs on before a filled secondary has loaded")
def writes_before_filled() -> None:
    good, stops_input = Reprotection.fill_progress, LeaderInitialSync.stops_input.fget

    def fill_progress(self, actions):
        good(self, actions)
        if self.fill and self.fill.phase == "loading":
            self._leader.run_on()

    Reprotection.fill_progress = fill_progress
    LeaderInitialSync.stops_input = property(lambda self: self.phase != "loading" and stops_input(self))


@mutant("a host that leads does not forget which copy of the other's disk it was")
def copy_not_forgotten() -> None:
    DiskWork.forget_copies = lambda self: None


@mutant("nobody asks whether the secondary's disk took the writes")
def disk_errors_not_asked() -> None:
    routes.LEADER["disk_failed"] = routes.SECONDARY["disk_failed"] = lambda roles, role, *said: None


@mutant("a leader whose own image lost a write hands over with one more syncvm")
def lost_write_handed_over() -> None:
    good = Leader.disk_failed

    def disk_failed(self, node, error, lost=False):
        if not self.protected or node.startswith("peer"):
            return good(self, node, error, lost)
        self.switchover.ask(lambda error: None)
        self.maybe_syncvm()

    Leader.disk_failed = disk_failed


@mutant("a secondary is filled though the disks are not merged after the failover")
def filled_before_merged() -> None:
    OwnDisks.merging = property(lambda self: False, lambda self, value: None)


@mutant("a merge that failed is not begun again")
def merge_given_up() -> None:
    OwnDisks.merge_again = lambda self, now: False


@mutant("a copy that was under way counts after a power loss as well")
def begun_copy_outlives_power_loss() -> None:
    good = Host.lose_unsynced

    def lose_unsynced(self):
        begun = self.copies_begun
        good(self)
        self.copies_begun = begun

    Host.lose_unsynced = lose_unsynced


@mutant("a cold start does not look at the marks of this host's disks")
def torn_image_booted() -> None:
    cold_start.why_torn = transitions.why_torn = lambda marks: ""


@mutant("an image into which overlays are merged is not marked")
def merge_not_marked() -> None:
    LocalImages.promoted = lambda self, view: None


@mutant("an image to which a copy has begun is not marked")
def copy_not_marked() -> None:
    LocalImages.torn = lambda self, view: None


@mutant("a copy whose sync failed keeps its name")
def lost_copy_keeps_its_name() -> None:
    DiskWork._forget_lost_copy = lambda self: None


@mutant("output leaves when all was sent to the secondary, not when it has it")
def released_when_sent() -> None:
    good, release = Director.emit, Guard.release

    def emit(self, *actions):
        good(self, *actions)
        sent = any(isinstance(a, effects.SendData) and isinstance(a.message, wire.StageEnd) for a in actions)
        if sent and self.consensus.fresh(self.now):
            good(self, effects.Emit(release(self.leading.guard, self.leading.output_commit._sync_mark)))

    Director.emit = emit
    Guard.release = lambda self, mark: release(self, mark) if self._marks else []


@mutant("the secondary's own output leaves its host")
def secondary_speaks() -> None:
    def output(self, frames):
        self.core.emit(effects.Emit([frames]))

    Follower.output = output


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


@mutant("who is elected while it compares the disks waits for a load that is over")
def waits_for_no_load() -> None:
    Follower.must_finish_load = property(lambda self: self.syncvm is not None and self.syncvm.holds_new_state)


@mutant("with RDMA: who votes leaves the old leader the permission to write")
def permission_kept() -> None:
    OneSided.seal = lambda self, now: None


@mutant("with RDMA: what had landed when the permission was taken away is not counted")
def landed_not_read() -> None:
    def end_grant(self, leader):
        if self.grants.pop(leader, None):
            self.card.revoke(leader)

    OneSided._end_grant = end_grant


@mutant("a stop is taken for over when QEMU has answered it, though it goes on sending")
def stop_not_over() -> None:
    LastOutput.over = lambda self, taken_bytes: True


@mutant("who adopts a VM leaves it as it was, running or not")
def adopted_as_it_was() -> None:
    good = Director.__init__

    def init(self, *arguments):
        good(self, *arguments)
        if isinstance(self.role, Leader):
            self.role.vm_stopped_by_us = False

    Director.__init__ = init
    ReplicaMember._adopt = lambda self, vm: setattr(self.memory, "qemu", vm)


@mutant("the watchdog is disarmed while a QEMU that spoke is being ended")
def disarmed_too_early() -> None:
    shell_policy.disarms_watchdog = lambda core, unreaped: not isinstance(core.role, Leader)


@mutant("who was just elected, or hung, announces its VM before it knows that it leads")
def announced_too_early() -> None:
    announce = shell_policy.Announce
    shell_policy.announces = lambda core: announce.NOW if core.leading else announce.NEVER


@mutant("a secondary's QEMU is noted as one to be taken over by the next daemon")
def secondary_adopted() -> None:
    shell_policy.notes_holder = lambda core: True


@mutant("nobody is told that an operation of QEMU's failed")
def failure_not_told() -> None:
    shell_policy.failure = lambda action, error, ours: None


@mutant("an initial sync ends without a comparison of all of memory")
def fill_not_compared() -> None:
    LeaderCheck.differing = lambda self: array("I")


def first_looks(name: str) -> list[int]:
    """The seed that caught it last, on the code as it was then: most often it does again, a hundred times sooner."""
    known = json.loads(KNOWN.read_text())
    return [known[name]] if name in known else []


def caught(name_and_seeds: tuple[str, int]) -> tuple[str, int, str]:
    """(mutant, a seed that catches it or -1, what it said)."""
    name, seeds = name_and_seeds
    MUTANTS[name][1]()
    for seed in itertools.chain(first_looks(name), range(seeds)):
        result = run(seed)
        if result.violation:
            return name, seed, result.violation
    return name, -1, ""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 -m tests.sim.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *MUTANTS], default=[])
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes at a time (one a core)")
    parser.add_argument("--note", action="store_true", help=f"write the seeds that caught them to {KNOWN.name}")
    options = parser.parse_args()
    names, found = options.names or list(MUTANTS), {}
    with multiprocessing.get_context("spawn").Pool(options.jobs, maxtasksperchild=1) as pool:
        for name, seed, why in pool.imap_unordered(caught, [(n, options.seeds) for n in names], chunksize=1):
            found[name] = seed
            print(f"{name:28} {'MISSED' if seed < 0 else f'seed {seed}':10} {why[:150]}", flush=True)
    missed = sum(seed < 0 for seed in found.values())
    if options.note:
        known = {**json.loads(KNOWN.read_text()), **{name: seed for name, seed in found.items() if seed >= 0}}
        KNOWN.write_text(json.dumps({name: known[name] for name in MUTANTS if name in known}, indent=1) + "\n")
    print(f"{len(names)} mutants, {missed} missed in {options.seeds} seeds each")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
