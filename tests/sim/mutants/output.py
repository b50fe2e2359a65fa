# SPDX-License-Identifier: GPL-3.0-or-later
"""Output commit broken on purpose: output that leaves too early, or from the wrong host."""

from __future__ import annotations

from plover.consensus.consensus import Consensus
from plover.core import shell_policy
from plover.core.director import Director
from plover.core.follower import Follower
from plover.core.guard import Guard
from plover.core.leader import Leader
from plover.core.output_commit import OutputCommit
from plover.dataplane.last_output import LastOutput
from plover.ports import effects
from plover.protocol import wire
from plover.syncvm.initial_sync import LeaderInitialSync

from .registry import mutant


@mutant("output leaves when the VM has stopped, not when the secondary holds the syncvm")
def release_before_ack() -> None:
    good, release = Leader.syncvm_stopped, Guard.release

    def syncvm_stopped(self):
        good(self)
        self.core.emit(effects.Emit(0, release(self.guard, self.output_commit._sync_mark)))

    Leader.syncvm_stopped = syncvm_stopped
    Guard.release = lambda self, mark: release(self, mark) if self._marked else []


@mutant("output leaves when the syncvm was sent to the secondary, not when the secondary has it")
def released_when_sent() -> None:
    good, release = Director.emit, Guard.release

    def emit(self, *actions):
        good(self, *actions)
        sent = any(isinstance(a, effects.SendData) and isinstance(a.message, wire.StageEnd) for a in actions)
        if sent and self.consensus.fresh(self.now):
            good(self, effects.Emit(0, release(self.leading.guard, self.leading.output_commit._sync_mark)))

    Director.emit = emit
    Guard.release = lambda self, mark: release(self, mark) if self._marked else []


@mutant("a leader speaks without asking a quorum, neither for output that no syncvm covers nor between two slices")
def quorum_not_asked() -> None:
    OutputCommit._ask_quorum = OutputCommit._release
    OutputCommit._knows_to_lead = lambda self: True


@mutant("a leader that lost its secondary goes on alone without recording the smaller in-sync set")
def in_sync_set_not_recorded() -> None:
    Leader.held_for_syncvm = property(lambda self: self.protected or bool(self.fill is not None and self.fill.holds_output))
    good = Consensus.propose_record

    def propose_record(self, in_sync):
        if self.record.view != self.view or len(in_sync) > 1:
            good(self, in_sync)

    Consensus.propose_record = propose_record


@mutant("a leader that was hung speaks before it asks whether it still leads")
def hung_leader_speaks() -> None:
    Consensus.fresh = lambda self, now: True


@mutant("output decided on before a SIGSTOP leaves after it")
def stopped_leader_speaks() -> None:
    shell_policy.in_time = lambda now, until: True


@mutant("the secondary's own output leaves its host")
def secondary_speaks() -> None:
    def output(self, frames):
        self.core.emit(effects.Emit(0, [frames]))

    Follower.output = output


@mutant("output is not held in the last steps of a fill")
def fill_does_not_hold_output() -> None:
    LeaderInitialSync.holds_output = property(lambda self: False)


@mutant("a stop counts as finished when QEMU answers, though QEMU still sends")
def stop_not_over() -> None:
    LastOutput.over = lambda self, taken_bytes: True


@mutant("a leader just elected, or hung, announces its VM before it knows that it still leads")
def announced_too_early() -> None:
    announce = shell_policy.Announce
    shell_policy.announces = lambda core: announce.NOW if core.leading else announce.NEVER
