# SPDX-License-Identifier: GPL-3.0-or-later
"""Which answer and which message goes where: see the tables at the end of this file. Pure.

core/router.py looks them up.

An answer comes from this host's QEMU or threads (ports/effects.py). Most answers have a tag and belong to the work that asked
for them: a syncvm or an initial sync ("fill"). A message comes from another member.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..ports import effects
from ..protocol import wire
from ..syncvm.initial_sync import LeaderInitialSync, SecondaryInitialSync
from ..syncvm.leader import LeaderSyncvm
from ..syncvm.secondary import SecondarySyncvm
from .follower import Follower
from .late_input import checked
from .leader import Leader
from .transitions import Transitions

Method = Callable[..., Any]
RoleHandler = Callable[..., None]  # (transitions, role, *contents of the answer or message)
WorkHandler = Callable[..., None]  # (transitions, role, work, *contents of the answer or message)


# ---- how a method is called, and what follows -------------------------------------------------------------------
def _call(method: Method, owner: object, *said: object) -> Any:
    return getattr(owner, method.__name__)(*said)  # looked up on the owner, as in any method call


def _role(method: Method) -> RoleHandler:
    """The role does the rest itself."""
    return lambda roles, role, *said: _call(method, role, *said)


def _by_role(method: Method) -> WorkHandler:
    """The role that owns the work does the rest itself."""
    return lambda roles, role, work, *said: _call(method, role, *said)


def _told_role(method: Method) -> WorkHandler:
    """As ``_by_role``, but the role does not need the message's contents."""
    return lambda roles, role, work, message: _call(method, role)


def _work(method: Method) -> WorkHandler:
    """The work notes it; nothing follows."""
    return lambda roles, role, work, *said: _call(method, work, *said)


def _emits(method: Method) -> WorkHandler:
    """The work returns the next effects."""
    return lambda roles, role, work, *said: roles.core.emit(*_call(method, work, *said))


def _emits_timed(method: Method) -> WorkHandler:
    """As ``_emits``, with the time as the last argument."""
    return lambda roles, role, work, *said: roles.core.emit(*_call(method, work, *said, roles.core.now))


def _captures(method: Method) -> WorkHandler:
    """As ``_emits``; if the leader's syncvm has now copied everything, its VM runs on."""

    def handle(roles: Transitions, leader: Leader, syncvm: LeaderSyncvm, *said: object) -> None:
        roles.core.emit(*_call(method, syncvm, *said))
        if roles.leading:
            roles.leading.syncvm_captured()

    return handle


def _progress(method: Method) -> WorkHandler:
    """As ``_emits``; the leader's initial sync made progress."""
    return lambda roles, leader, fill, *said: leader.reprotection.fill_progress(_call(method, fill, *said))


def _compares(method: Method) -> WorkHandler:
    """As ``_progress``; the comparison at its end made progress."""
    return lambda roles, leader, fill, hashes: leader.reprotection.fill_hashed(_call(method, fill, hashes))


def _stopped(method: Method) -> WorkHandler:
    """The leader's VM stands still. If a write was lost, it must neither run on nor be copied."""
    return lambda roles, leader, work: None if leader.own.lost else _call(method, leader)


# ---- handlers of more than one call ----------------------------------------------------------------------
def _stream_captured(roles: Transitions, leader: Leader, fill: LeaderInitialSync, stream: bytes) -> None:
    leader.reprotection.stream_captured(stream)


def _fill_done(roles: Transitions, leader: Leader, fill: LeaderInitialSync, m: wire.FillDone) -> None:
    leader.reprotection.fill_done()


def _copy_progress(roles: Transitions, leader: Leader, fill: LeaderInitialSync, done: int, total: int) -> None:
    fill.copy_progress(done, total, roles.core.now)


def _load_finished(roles: Transitions, leader: Leader, work: SecondarySyncvm) -> None:
    roles.load_finished(leader)


def _join_requested(roles: Transitions, leader: Leader, src: str, m: wire.JoinRequest) -> None:
    leader.reprotection.join_requested(m)


def _lost_its_copy(roles: Transitions, leader: Leader, src: str, m: wire.Leave) -> None:
    leader.reprotection.drop(f"{src} lost its copy: {m.payload.decode(errors='replace')[:200]}")


def _late_input(roles: Transitions, leader: Leader, m: wire.LateInput) -> None:
    leader.incoming.take_late(checked(m.payload, len(roles.core.config.nics)))


def _heard(roles: Transitions, leader: Leader, m: wire.Said) -> None:
    leader.output_commit.heard(m)
    leader.maybe_syncvm()  # the two VMs may differ


def _leaders_bitmap(roles: Transitions, follower: Follower, m: wire.Bitmap) -> None:
    roles.core.event_log.interrupted(roles.core.now)  # the leader's VM stands still; after a handover it stays so
    follower.on_bitmap(m)


def _refused(roles: Transitions, follower: Follower, src: str, m: wire.JoinRefused) -> None:
    follower.refused = m.payload.decode(errors="replace")[:500]


def _tap_ready(roles: Transitions, leader: Leader, forwards: bool = True) -> None:
    """``forwards``: clients are reached now; else tap_reached() comes once they are."""
    if roles.leading and leader.tap_up:
        if forwards:
            _tap_reached(roles, leader)
        leader.output_commit.open_way()


def _tap_reached(roles: Transitions, leader: Leader, waited: str = "") -> None:
    """``waited``: what clients had to wait for beside the failover."""
    if roles.leading and leader.tap_up:
        roles.core.emit(*roles.core.event_log.serving(roles.core.now, roles.core.consensus.view, waited))
        roles.core.drills.serving(roles.core.event_log.outage_ms)


def _left(roles: Transitions, leader: Leader, number: int, rest: list[bytes]) -> None:
    leader.output_commit.left(number, rest)


def _disk_pressure(roles: Transitions, leader: Leader, written: int) -> None:
    """The guest has written so much since the last syncvm that the secondary's overlays may fill: a syncvm is due."""
    if roles.leading:
        leader.disk_pressure = True
        leader.maybe_syncvm()


def _merged(roles: Transitions, leader: Leader) -> None:
    roles.core.emit(*leader.own.merged())


def _merge_failed(roles: Transitions, leader: Leader, error: str) -> None:
    """The merge stopped, until MergeDisks."""
    roles.core.emit(*leader.own.merge_failed(roles.core.now, error))


def _guest_off(roles: Transitions, leader: Leader, all_know: bool) -> None:
    """Its guest has powered itself off. ``all_know``: all members run a version that can record that."""
    leader.power.guest_off(all_know)


def _guest_panicked(roles: Transitions, leader: Leader, all_know: bool) -> None:
    leader.power.crash.panicked(all_know)


def _guest_reset(roles: Transitions, leader: Leader) -> None:
    leader.power.crash.guest_reset()


def _fenced(roles: Transitions, leader: Leader, tag: effects.Tag, error: str | None) -> None:
    """The fence agent ended; ``error``: why it did not succeed."""
    if leader.fencing and leader.fencing.tag == tag:
        leader.fenced(leader.fencing, error)


def _leader_failed(roles: Transitions, leader: Leader, tag: effects.Tag, error: str) -> None:
    """A failed initial sync is tried again. In all else the leader's QEMU has failed."""
    if leader.fill is not None and leader.fill.tag == tag:
        leader.reprotection.fill_failed(error)
    else:
        leader.qemu_refused(error)


def _secondary_failed(roles: Transitions, follower: Follower, tag: effects.Tag, error: str) -> None:
    follower.reset(error, tell=True)


def _secondarys_disk_failed(roles: Transitions, follower: Follower, node: str, error: str, lost: bool = False) -> None:
    follower.reset(f"{node}: {error}", tell=True)


def _leaders_copy_lost(roles: Transitions, leader: Leader, tag: effects.Tag, error: str) -> None:
    """A write to our images did not reach the disk: a VM that reads it would get other data than it wrote."""
    roles.core.copies_failed += 1
    roles.give_up_qemu(f"this host's disks lost what was written to them: {error}")


def _secondarys_copy_lost(roles: Transitions, follower: Follower, tag: effects.Tag, error: str) -> None:
    roles.core.copies_failed += 1
    follower.copy_lost(error)


def _qemu_ready(roles: Transitions, role: Leader | Follower, facts: dict[str, Any]) -> None:
    """QEMU is up; ``facts``: what must be equal on both replicas."""
    roles.core.facts = facts
    roles.qemu_ready()


# ---- answers: to the role, or to the work under way that has the answer's tag ------------------------------
LEADER: dict[str, RoleHandler] = {
    "qemu_ready": _qemu_ready,
    "promoted": _role(Leader.vm_running),
    "tap_ready": _tap_ready,
    "tap_reached": _tap_reached,
    "left": _left,
    "fenced": _fenced,
    "failed": _leader_failed,
    "copy_lost": _leaders_copy_lost,
    "disk_failed": _role(Leader.disk_failed),
    "disk_pressure": _disk_pressure,
    "disks_merged": _merged,
    "disks_unmerged": _merge_failed,
    "vm_waits_for_disk": _role(Leader.vm_waits_for_disk),
    "guest_off": _guest_off,
    "guest_panicked": _guest_panicked,
    "guest_reset": _guest_reset,
}
LEADER_SYNCVM: dict[str, WorkHandler] = {
    "drained": _emits_timed(LeaderSyncvm.drained),
    "vm_stopped": _stopped(Leader.syncvm_stopped),
    "device_saved": _captures(LeaderSyncvm.device_saved),
    "hashed": _captures(LeaderSyncvm.hashed),
    "packed": _captures(LeaderSyncvm.packed),
    "disks_hashed": _by_role(Leader.disks_hashed),
}
LEADER_FILL: dict[str, WorkHandler] = {
    "tracker_open": _emits(LeaderInitialSync.tracker_open),
    "dirty_fetched": _progress(LeaderInitialSync.dirty_fetched),
    "copy_progress": _copy_progress,
    "disks_copied": _progress(LeaderInitialSync.disks_copied),
    "drained": _emits_timed(LeaderInitialSync.drained),
    "vm_stopped": _stopped(Leader.fill_stopped),
    "disks_attached": _progress(LeaderInitialSync.disks_attached),
    "stream_captured": _stream_captured,
    "hashed": _compares(LeaderInitialSync.hashed),
}
SECONDARY: dict[str, RoleHandler] = {
    "qemu_ready": _qemu_ready,
    "failed": _secondary_failed,
    "copy_lost": _secondarys_copy_lost,
    "disk_failed": _secondarys_disk_failed,
    "guest_off": _role(Follower.guest_went_off),
    "guest_panicked": _role(Follower.guest_panicked),
    "guest_reset": _role(Follower.guest_reset),
}
SECONDARY_SYNCVM: dict[str, WorkHandler] = {
    "drained": _emits(SecondarySyncvm.drained),
    "vm_stopped": _emits(SecondarySyncvm.vm_stopped),
    "hashed": _emits(SecondarySyncvm.hashed),
    "blocks_hashed": _emits(SecondarySyncvm.blocks_hashed),
    "vm_reset": _emits(SecondarySyncvm.vm_reset),
    "colo_loaded": _by_role(Follower.colo_loaded),
    "disks_hashed": _by_role(Follower.disks_hashed),
}
SECONDARY_FILL: dict[str, WorkHandler] = {
    "tracker_open": _emits(SecondaryInitialSync.tracker_open),
    "hashed": _emits(SecondaryInitialSync.hashed),
    "colo_ready": _by_role(Follower.colo_ready),
}
# The leader: a syncvm that was staged here before this replica was elected, and must still be loaded.
FINISHING: dict[str, WorkHandler] = {
    "hashed": _emits(SecondarySyncvm.hashed),
    "vm_reset": _emits(SecondarySyncvm.vm_reset),
    "colo_loaded": _load_finished,
}

# ---- messages of other members ----------------------------------------------------------------------------
# On the control channel. A handover goes to Transitions, everything else to the consensus.
TO_LEADER: dict[type[wire.Message], RoleHandler] = {wire.JoinRequest: _join_requested, wire.Leave: _lost_its_copy}
TO_SECONDARY: dict[type[wire.Message], RoleHandler] = {wire.JoinRefused: _refused}
# On the data channel. A message with the number of a syncvm or initial sync goes to that one only.
TO_LEADER_DATA: dict[type[wire.Message], RoleHandler] = {wire.LateInput: _late_input, wire.Said: _heard}
TO_LEADER_SYNCVM: dict[type[wire.Message], WorkHandler] = {
    wire.Bitmap: _captures(LeaderSyncvm.on_bitmap),
    wire.Hashes: _by_role(Leader.hashes_came),
    wire.BlockHashes: _captures(LeaderSyncvm.on_block_hashes),
    wire.Resend: _emits(LeaderSyncvm.on_resend),
    wire.Staged: _told_role(Leader.staged),
    wire.Applied: _told_role(Leader.applied_by_secondary),
    wire.DiskHashes: _work(LeaderSyncvm.on_disk_hashes),
}
SYNCVM_WRITABLE = _captures(LeaderSyncvm.writable)  # the data channel has room
TO_LEADER_FILL: dict[type[wire.Message], WorkHandler] = {
    wire.FillHashes: _compares(LeaderInitialSync.on_hashes),
    wire.FillDone: _fill_done,
}
FILL_WRITABLE = _progress(LeaderInitialSync.writable)
TO_SECONDARY_DATA: dict[type[wire.Message], RoleHandler] = {
    wire.FillPages: _role(Follower.on_fill_pages),
    wire.FillCheck: _role(Follower.on_fill_check),
    wire.FillState: _role(Follower.on_fill_state),
    wire.Said: _role(Follower.on_said),
    wire.Bitmap: _leaders_bitmap,
    wire.Divergent: _role(Follower.on_staging),
    wire.StageBlocks: _role(Follower.on_staging),
    wire.StagePages: _role(Follower.on_staging),
    wire.StageEnd: _role(Follower.on_stage_end),
}
