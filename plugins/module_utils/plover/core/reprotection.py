# SPDX-License-Identifier: GPL-3.0-or-later
"""The leader and its secondary: how it comes, is filled, and goes. The part of :class:`plover.core.leader.Leader` for that."""
from __future__ import annotations

import json
import re

from ..errors import WireError
from ..ports import effects as act
from ..protocol import wire
from ..syncvm.initial_sync import CHECKS_MAX, LeaderFill
from .disk_marks import why_no_source
from .one_device import one_for_both

DISK_COPY = "disk_copy"  # what a joiner says of its images, see disks/copy_names.py
DISK_IDS = "disk_ids"  # names of the devices that its images are, see disks/identity.py
FILL_PAUSE_S, FILL_PAUSE_S_MAX = 0.25, 30.0
OWN_RETRY_S = 1.0
OWN_ERROR_S = 2.0  # QEMU tells of errors of one image once a second at most: after one, no secondary is attached for longer
NAMES_MAX = 16
_NAME = re.compile(r"[0-9a-f]{32}\Z")  # as QEMU's bitmaps are called
PEERS = ("peer", "nbd")  # nodes of QEMU's block graph that are the secondary's image
ABSENT, FILLING, IN_SYNC, LEAVING = "absent", "filling", "in-sync", "leaving"


class Joining:
    """Over the state of Leader."""

    def join_requested(self, m: wire.JoinRequest) -> None:
        if not self.serving or self.peer_state == LEAVING or self.core.now < self._join_again_at or self.own.merging:
            return  # it asks again
        if self.peer_state == IN_SYNC:
            self.drop_peer(f"{self.peer} restarted without the VM's state")
            return
        try:
            facts = json.loads(m.payload)
        except (ValueError, RecursionError) as error:
            raise WireError(f"malformed join request: {error}") from error
        if self.fill:
            # It asks until its first page comes: not while disks are copied, or all of memory is hashed to track it.
            if not isinstance(facts, dict) or facts.get("began") != self._joiner:
                self.drop_peer(f"{self.peer} began anew during its fill")
            return
        refusal = differences(self.core.facts, facts) or self._one_device(facts) or self._no_source()
        if refusal:
            self.peer_note = f"{self.peer} cannot join: {refusal}"
            self.core.report(self.peer_note)
            self.core.send(self.peer, wire.JoinRefused(self.cons.view, refusal.encode()))
            return
        self.joins += 1
        self.pages_mended = 0
        self._joiner = facts.get("began")
        self.peer_state, self.peer_note = FILLING, f"{self.peer} is being filled"
        self.fill = LeaderFill(self.cons.view, self.joins, self.core.memory, self.disks,
                               facts.get("checks") is True)
        self.fill.held, self.fill.copy = copies(facts.get(DISK_COPY)) or (self.fill.held, self.fill.copy)
        self.core.report(f"re-protecting: filling {self.peer} while clients are served")
        self.core.emit(*self.fill.start(self.core.now))

    def _one_device(self, facts: dict) -> str:
        return one_for_both(self.core.facts.get(DISK_IDS), facts.get(DISK_IDS), [disk.path for disk in self.config.disk_list])

    def _no_source(self) -> str:
        """Why nobody can be filled from here: it would overwrite blocks that are better than ours."""
        why = why_no_source(self.core.marks)
        return why and (f"{why}. Such a disk is never copied to another host. Shut the guest down and boot the VM from "
                        "another disk: see 'Cold start' in docs/operations.md")

    def fill_stopped(self) -> None:
        self.vm_stopped_by_us = True
        self.core.emit(*self.fill.vm_stopped(self.applied))

    def fill_progress(self, actions: list) -> None:
        """Carry ``actions`` of the fill out; once the last pages are on their way, run on."""
        self.fill.progress_at = self.core.now
        self.core.emit(*actions)
        if self.fill.never_equal:
            return self.fill_failed(f"guest memory still differs after {CHECKS_MAX} looks; set "
                                    "syncvm_dirty_tracking to scan, and see whether the hosts' memory is sound")
        if self.fill.final_done:
            self.core.emit(*self.fill.end(self.stream))
            self.stream = b""
            if not self.disks:
                self._cont()
                self.advance()

    def fill_hashed(self, actions: list) -> None:
        """One side of the comparison at the end came further."""
        self.fill.waits_since = self.core.now
        found, self.pages_mended = self.fill.pages_mismatching - self.pages_mended, self.fill.pages_mismatching
        if found:
            self.core.fill_pages_mismatching += found
            self.core.report(f"FAULT: the initial sync of {self.peer} found {found} pages that differ though they were sent "
                             "and no write was reported since; sending them again (dirty tracking: "
                             f"{self.config.syncvm_dirty_tracking})")
        self.fill_progress(actions)

    def fill_failed(self, error: str) -> None:
        """Try again, but not at once: what went wrong is often still so, and a copy costs the VM its speed."""
        self._fills_failed += 1
        pause_s = min(FILL_PAUSE_S_MAX, FILL_PAUSE_S * 2 ** self._fills_failed)
        self._join_again_at = self.core.now + pause_s
        self.drop_peer(f"the fill failed: {error}; trying again in {pause_s:.1f} s")

    def fill_done(self) -> None:
        self.fill.on_done()
        if self.disks:
            self._cont()
            self.advance()
        self.cons.propose_record(frozenset(self.config.replicas))

    def disk_failed(self, node: str, error: str, lost: bool = False) -> None:
        """A write or read went wrong. ``lost``: QEMU may have told the guest that a write of it is done.

        Then the guest reads the old block from now on: nothing that the VM has done since may go anywhere. The secondary
        goes on from the last syncvm, before which no write was lost, or its stop would have told.
        """
        what = f"this host's image fails ({node}: {error})"
        if node.startswith(PEERS):
            self.drop_peer(f"{self.peer} does not take our writes to its disks ({node}: {error})")
        elif self.peer_state == IN_SYNC:
            self.own.lost = error if lost else ""
            self.core.give_up_qemu(f"{what}; {self.peer} has it all")
        elif lost and self.fill is not None and self.active:
            self._stop_for_good(error)
            self.core.report(f"{what} beside a secondary that is not recorded yet; the VM stands still until it is")
        elif lost:
            self.own.lost = error
            self.core.give_up_qemu(f"{what}, no other host is in sync, and the guest was told that the write is done")
        else:
            self.core.report(f"{what}, and no other host is in sync; see to it now")
            if self.fill:
                self.fill_failed(what)
            self._join_again_at = max(self._join_again_at, self.core.now + OWN_ERROR_S)

    def _stop_for_good(self, error: str) -> None:
        self.own.lost = error
        if not self.vm_stopped_by_us:
            self.vm_stopped_by_us = True
            self.core.emit(act.StopVm(("lost write", self.cons.view)))

    def disks_merged(self) -> None:
        if self.own.merging:
            self.core.report("the disks are whole: what the VM wrote before the failover is in them")
        self.own.merged()

    def vm_waits_for_disk(self, error: str) -> None:
        self.core.report(f"QEMU has stopped the VM at an error of its disk ({error}); trying again in {OWN_RETRY_S:.0f} s")
        self.own.vm_waits(self.core.now, error)
        self._retry_at = self.core.now + OWN_RETRY_S

    def drop_peer(self, why: str) -> None:
        """Go on without the secondary: stop what waits for it, record the smaller in-sync set."""
        self._kept = False
        if self.peer_state in (ABSENT, LEAVING):
            return
        if self.own.lost:
            return self.core.give_up_qemu(f"{why}, and this host's image lacks a write ({self.own.lost})")
        self.peer_note = why
        self.core.report(f"degraded: {why}")
        self._abort_work(why)
        self.peer_state = ABSENT
        self._detach_disks()
        self.core.emit(act.CloseData())
        if self.peer in self.cons.record.in_sync:
            self.peer_state = LEAVING
            self.cons.propose_record(frozenset({self.config.member}))
        self.guard.unmark()
        self._confirm = None
        if self.active and self.vm_stopped_by_us:
            self._cont()
        self.advance()


def copies(said: object) -> tuple[tuple[str, ...], str] | None:
    """Names of the copies a joiner has, and of the one it will have; None if it names none."""
    if not isinstance(said, dict):
        return None
    held, name = said.get("held"), said.get("next")
    if not isinstance(held, list) or not all(_is_name(each) for each in [*held[:NAMES_MAX], name]):
        return None
    return tuple(held[:NAMES_MAX]), name


def _is_name(value: object) -> bool:
    return isinstance(value, str) and _NAME.match(value) is not None


def differences(ours: dict, theirs: object) -> str:
    """What must be equal on both replicas and is not, as one sentence; empty if nothing."""
    if not isinstance(theirs, dict):
        return "its join request is not a JSON object"
    return "; ".join(f"{key} is {theirs.get(key)!r} there and {ours[key]!r} here; make them equal"
                     for key in ours if key not in (DISK_COPY, DISK_IDS) and ours[key] != theirs.get(key))
