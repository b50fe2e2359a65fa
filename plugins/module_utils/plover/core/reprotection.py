# SPDX-License-Identifier: GPL-3.0-or-later
"""The leader's view of its secondary: how it joins, is filled and recorded in sync, and how it is dropped. Sans-I/O.

The initial sync itself is in syncvm/initial_sync.py. This file decides when one begins, how long it may take, what follows
its end, and what is recorded as in sync.
"""

from __future__ import annotations

import math
from enum import Enum
from typing import Any, Protocol

from ..errors import InvariantViolation
from ..ports import effects
from ..protocol import wire
from ..syncvm.initial_sync import CHECKS_MAX, LeaderInitialSync
from . import join_request
from .director_port import DirectorPort
from .disk_marks import why_no_source
from .drill import HAND_BACK, HandBack
from .event_log import SWITCHOVER
from .output_commit import OutputCommit
from .own_disks import OwnDisks

PAUSE_S, PAUSE_S_MAX = 0.25, 30.0  # after a failed initial sync, doubled each time
SECONDARY_NODES = ("peer", "nbd")  # prefixes of the nodes in QEMU's block graph that stand for the secondary's image
OWN_ERROR_S = 2.0  # no initial sync begins this soon after an image error: QEMU reports at most one a second


class State(Enum):
    """Of the secondary."""

    ABSENT = "absent"
    FILLING = "filling"  # an initial sync is under way
    IN_SYNC = "in sync"  # a quorum has the record on disk
    LEAVING = "leaving"  # dropped; a quorum does not have the new record on disk yet


ABSENT, FILLING, IN_SYNC, LEAVING = State
NEXT = {
    ABSENT: {FILLING, IN_SYNC},  # FILLING: it joins. IN_SYNC: we are elected again, and its state still fits
    FILLING: {IN_SYNC, LEAVING, ABSENT},  # LEAVING: other members may have stored the record that names it
    IN_SYNC: {LEAVING, ABSENT},  # ABSENT: another view began
    LEAVING: {ABSENT},
}


class Switch(Protocol):
    off: bool  # the guest has powered itself off


class Leading(Protocol):
    """What re-protection asks of its leader."""

    own: OwnDisks
    output_commit: OutputCommit
    hand_back: HandBack

    @property
    def serving(self) -> bool: ...

    @property
    def power(self) -> Switch: ...

    def run_on(self) -> None:
        """The initial sync no longer needs the VM stopped."""

    def abandon_syncvm(self, why: str) -> None:
        """Give up the syncvm under way: its secondary is gone."""

    def serve_alone(self) -> None:
        """The secondary is gone: nothing waits for it from now on."""


class Reprotection:
    def __init__(self, core: DirectorPort, leader: Leading) -> None:
        self._core, self._config, self._cons, self._leader = core, core.config, core.consensus, leader
        self.secondary = next(m for m in self._config.replicas if m != self._config.member)
        self.state = ABSENT
        self.note = "no secondary has asked to join yet"  # one sentence for the operator
        self.fill: LeaderInitialSync | None = None  # while FILLING
        self._asked_at = -math.inf  # when the joiner asked for its fill
        self.joins = 0
        self.pages_mended = 0  # pages of the last initial sync that differed at its end although no write was reported
        self._stream = b""
        self._failed, self._not_before = 0, 0.0  # initial syncs that failed in a row; when the next may begin
        self._joiner: object = None  # identifies the QEMU that is filled, among its successors
        self._kept = False  # deposed with a secondary in sync: if elected again, we go on with it

    @property
    def in_sync(self) -> bool:
        return self.state is IN_SYNC

    def _become(self, state: State) -> None:
        if state not in NEXT[self.state]:
            raise InvariantViolation(f"{self.secondary} is {self.state.value}, and was to be {state.value} next")
        if state is IN_SYNC and self.secondary not in self._cons.record.in_sync:
            raise InvariantViolation(f"{self.secondary} was to count as in sync, and the record does not name it")
        self.state = state

    # ---- with the leader's views -----------------------------------------------------------------------
    def begin(self) -> None:
        """Elected: record ourselves as in sync, and also a secondary that was in sync when we were deposed."""
        kept, self._kept = self._kept, False
        if kept and self.secondary in self._cons.record.in_sync and self._cons.hears(self.secondary, self._core.now):
            # Its state and our dirty pages still fit, so the next syncvm makes us equal. If its copy is gone, it says so.
            self._become(IN_SYNC)
            self._cons.propose_record(frozenset(self._config.replicas))
        else:
            self._detach_disks()  # an earlier daemon, or this one in an earlier view, may have attached them
            self._cons.propose_record(frozenset({self._config.member}))

    def suspend(self, fits: bool) -> None:
        """Another view began. ``fits``: the state of a secondary in sync still fits our VM, should we be elected again."""
        self._kept = fits and (self._kept or self.in_sync)
        self._end_fill()
        if self.state is not ABSENT:
            self._become(ABSENT)

    def record_committed(self) -> bool:
        """A quorum has stored the record. True if the VM is protected from now on, and was not before."""
        in_sync = self._cons.record.in_sync
        if self.fill is not None and self.secondary in in_sync:
            self._become(IN_SYNC)
            self.fill, self._failed = None, 0
            self._core.scrub.begin(self._core.now)
            self._core.report(f"protected: {self.secondary} holds the VM's state; in-sync set {sorted(in_sync)}")
            return True
        if self.state is LEAVING:
            self._become(ABSENT)
        return False

    # ---- an initial sync -------------------------------------------------------------------------------
    def join_requested(self, m: wire.JoinRequest) -> None:
        now, own = self._core.now, self._leader.own
        if not self._leader.serving or self.state is LEAVING or now < self._not_before or own.merging or self._leader.power.off:
            return  # it asks again
        if self.in_sync:
            return self.drop(f"{self.secondary} restarted without the VM's state")
        facts = join_request.parse(m.payload)
        if self.fill:
            # It asks until its first page comes. That takes long while disks are copied, or memory is hashed to track it.
            if not isinstance(facts, dict) or facts.get("began") != self._joiner:
                self.drop(f"{self.secondary} began anew during its fill")
            return
        refusal = self._refusal(facts)
        if refusal:
            self.note = f"{self.secondary} cannot join: {refusal}"
            self._core.report(self.note)
            self._core.send(self.secondary, wire.JoinRefused(self._cons.view, refusal.encode()))
        else:
            self._start_fill(facts)

    def _refusal(self, facts: Any) -> str:
        """Why this joiner cannot be filled from here, with the remedy; empty if it can."""
        ours = self._core.facts
        why = join_request.differences(ours, facts)
        why = why or join_request.one_for_both(
            ours.get(join_request.DISK_IDS), facts.get(join_request.DISK_IDS), [disk.path for disk in self._config.disk_list]
        )
        if not why and (mark := why_no_source(self._core.marks)):
            why = (
                f"{mark}. Such a disk is never copied to another host. Shut the guest down and boot the VM from "
                "another disk: see 'Cold start' in docs/operations.md"
            )
        return why

    def _start_fill(self, facts: dict[str, Any]) -> None:
        self.joins += 1
        self.pages_mended = 0
        self._joiner = facts.get("began")
        self._become(FILLING)
        self._asked_at = self._core.now
        self.note = f"{self.secondary} is being filled"
        fill = LeaderInitialSync(self._cons.view, self.joins, self._core.memory, bool(self._config.disks), facts.get("checks") is True)
        self._leader.output_commit.agreed.says = facts.get(join_request.SAYS) is True
        # Only who has just handed the VM over may have it back.
        self._leader.hand_back.wanted = facts.get(HAND_BACK) is True and self._core.event_log.cause == SWITCHOVER
        fill.held, fill.copy = join_request.copies(facts.get(join_request.DISK_COPY)) or (fill.held, fill.copy)
        self.fill = fill
        self._core.report(f"re-protecting: filling {self.secondary} while clients are served")
        self._core.emit(*fill.start(self._core.now))

    @property
    def _filling(self) -> LeaderInitialSync:
        if self.fill is None:
            raise InvariantViolation("an answer for an initial sync that is not under way")
        return self.fill

    def vm_stopped(self, index: int) -> None:
        """Our VM stands still; it has consumed the log up to ``index``."""
        self._core.emit(*self._filling.vm_stopped(index))

    def fill_progress(self, actions: list[Any]) -> None:
        """The initial sync made progress. Once the last pages are on their way, the VM runs on."""
        fill = self._filling
        fill.progress_at = self._core.now
        self._core.emit(*actions)
        if fill.never_equal:
            return self.fill_failed(
                f"guest memory still differs after {CHECKS_MAX} looks; set "
                "syncvm_dirty_tracking to scan, and see whether the hosts' memory is sound"
            )
        if fill.final_done:
            self._core.emit(*fill.end(self._stream))
            self._stream = b""
            if not self._config.disks:
                self._leader.run_on()

    def stream_captured(self, stream: bytes) -> None:
        self._stream = stream
        self.fill_progress(self._filling.stream_captured())

    def fill_hashed(self, actions: list[Any]) -> None:
        """The comparison at the end made progress on one side."""
        fill = self._filling
        fill.waits_since = self._core.now
        found, self.pages_mended = fill.pages_mismatching - self.pages_mended, fill.pages_mismatching
        if found:
            self._core.fill_pages_mismatching += found
            self._core.report(
                f"FAULT: the initial sync of {self.secondary} found {found} pages that differ though they were "
                "sent and no write was reported since; sending them again (dirty tracking: "
                f"{self._config.syncvm_dirty_tracking})"
            )
        self.fill_progress(actions)

    def fill_done(self) -> None:
        """The secondary has loaded everything."""
        self._filling.on_done()
        if self._config.disks:
            self._leader.run_on()
        self._cons.propose_record(frozenset(self._config.replicas))

    def fill_failed(self, error: str) -> None:
        """Try again, but not at once: the cause often persists, and a copy slows the VM down."""
        self._failed += 1
        pause_s = min(PAUSE_S_MAX, PAUSE_S * 2**self._failed)
        self._not_before = self._core.now + pause_s
        self.drop(f"the fill failed: {error}; trying again in {pause_s:.1f} s")

    def own_image_failed(self, why: str) -> None:
        """No secondary is filled from an image that may lose a write next."""
        if self.fill:
            self.fill_failed(why)
        self._not_before = max(self._not_before, self._core.now + OWN_ERROR_S)

    # ---- the end ---------------------------------------------------------------------------------------
    def enforce_limits(self) -> None:
        """Drop a secondary that keeps clients waiting longer than the settings allow."""
        now, ms, fill = self._core.now, self._config, self.fill
        # What it asked for is an answer as well: after a stall of ours, its join request may be read before its first answer.
        heard_at = max(self._cons.followers.answered_at[self.secondary], self._asked_at)
        silent = now - heard_at > ms.peer_timeout_ms / 1000
        if silent and self.state in (FILLING, IN_SYNC):
            self.drop(f"{self.secondary} has been silent for {ms.peer_timeout_ms} ms (peer_timeout_ms)")
        elif fill and now - fill.progress_at > ms.join_timeout_ms / 1000:
            self.drop(f"the fill made no progress for {ms.join_timeout_ms} ms (join_timeout_ms)")
        elif fill and fill.holds_output and now - fill.waits_since > ms.syncvm_timeout_ms / 1000:
            self.drop(f"the last step of the fill took longer than {ms.syncvm_timeout_ms} ms (syncvm_timeout_ms)")

    def drop(self, why: str) -> None:
        """Go on without the secondary: give up the work that waits for it, record the smaller in-sync set."""
        self._kept = False
        if self.state in (ABSENT, LEAVING):
            return
        lost = self._leader.own.lost
        if lost:
            return self._core.give_up_qemu(f"{why}, and this host's image lacks a write ({lost})")
        self.note = why
        self._core.report(f"degraded: {why}")
        self._end_fill()
        self._leader.abandon_syncvm(why)
        self._detach_disks()
        self._core.emit(effects.CloseData())
        if self.secondary in self._cons.record.in_sync:
            self._become(LEAVING)
            self._cons.propose_record(frozenset({self._config.member}))
        else:
            self._become(ABSENT)
        self._leader.serve_alone()

    def _end_fill(self) -> None:
        if self.fill:
            self._detach_disks()
        self.fill, self._stream = None, b""

    def _detach_disks(self) -> None:
        if self._config.disks:
            self._core.emit(effects.DetachDisks())
