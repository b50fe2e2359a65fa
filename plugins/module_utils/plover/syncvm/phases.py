# SPDX-License-Identifier: GPL-3.0-or-later
"""The phases of a syncvm and of an initial sync, on each side: what happens in which phase, and which phase follows.

tools/draw_phases.py draws these tables into docs/syncvm.md. An event that the table does not list for a phase is refused
(syncvm/phase_machine.py). So an event that is allowed but leaves the phase as it is must be listed too.
"""

from __future__ import annotations

from .phase_machine import BY_PEER, Event, Phase, Table

MEMORY, DISKS = 1, 2  # what an audit compares; DISKS: memory and disks


# ---- a syncvm: the leader ------------------------------------------------------------------------------------
class LeaderPhase(Phase):
    ORDERED = "ordered", 'proposes the entry "syncvm N", feeds all input before it'
    DRAIN = "drain", "lets an idle VM answer input that has just arrived"
    STOP = "stop", "stops the VM at the entry, takes its last output, sets the mark"
    EXCHANGE = "exchange", "sends its dirty bitmap, saves the device state"
    HASH = "hash", "hashes the pages that either VM has written"
    COMPARE = "compare", "sends the numbers of the divergent pages, waits for the hashes of their blocks"
    STAGE = "stage", "sends the divergent pages, or copies their blocks"
    PACK = "pack", "packs and sends the blocks; the VM runs on"
    WAIT_STAGED = "wait-staged", "has sent everything with its digest; output stays held"
    WAIT_AUDIT = "wait-audit", "releases the output, truncates the log; waits for the hashes of the applied pages"
    LOAD = "load", "releases the output, truncates the log (an audit has already done so); the secondary loads"
    DONE = "done", "the secondary runs; an audit of disks still waits for this host's own hashes"


class LeaderEvent(Event):
    REACHED = "entry reached"
    DRAINED = "drained"
    VM_STOPPED = "vm_stopped"
    BITMAP = "Bitmap", BY_PEER
    BOTH_BITMAPS = "both bitmaps"
    BOTH_BITMAPS_CHECKPOINT = "both bitmaps (checkpoint)"
    DEVICE_SAVED = "device_saved"
    HASHED = "hashed"
    HASHES = "Hashes", BY_PEER
    FEW_DIVERGE = "few pages diverge"
    MANY_DIVERGE = "many pages diverge"
    BLOCK_HASHES = "BlockHashes", BY_PEER
    PAGES_SENT = "pages sent"
    BLOCKS_COPIED = "blocks copied"
    PACKED = "packed"
    RESEND = "Resend", BY_PEER
    STAGED = "Staged", BY_PEER
    STAGED_AUDIT = "Staged (audit)", BY_PEER
    HASHES_AFTER = "Hashes (after)", BY_PEER
    DISKS_HASHED = "disks_hashed"
    DISK_HASHES = "DiskHashes", BY_PEER
    APPLIED = "Applied", BY_PEER


def _leader() -> Table[LeaderPhase]:
    phase, event = LeaderPhase, LeaderEvent
    return {
        phase.ORDERED: {event.BITMAP: phase.ORDERED, event.REACHED: phase.DRAIN},
        phase.DRAIN: {event.BITMAP: phase.DRAIN, event.DRAINED: phase.STOP},
        phase.STOP: {event.BITMAP: phase.STOP, event.VM_STOPPED: phase.EXCHANGE},
        phase.EXCHANGE: {
            event.BITMAP: phase.EXCHANGE,
            event.DEVICE_SAVED: phase.EXCHANGE,
            event.BOTH_BITMAPS: phase.HASH,
            event.BOTH_BITMAPS_CHECKPOINT: phase.STAGE,
        },
        phase.HASH: {
            event.DEVICE_SAVED: phase.HASH,
            event.HASHED: phase.HASH,
            event.HASHES: phase.HASH,
            event.FEW_DIVERGE: phase.STAGE,
            event.MANY_DIVERGE: phase.COMPARE,
        },
        phase.COMPARE: {event.DEVICE_SAVED: phase.COMPARE, event.BLOCK_HASHES: phase.STAGE},
        phase.STAGE: {event.DEVICE_SAVED: phase.STAGE, event.BLOCKS_COPIED: phase.PACK, event.PAGES_SENT: phase.WAIT_STAGED},
        phase.PACK: {event.PACKED: phase.WAIT_STAGED},
        phase.WAIT_STAGED: {event.RESEND: phase.STAGE, event.STAGED: phase.LOAD, event.STAGED_AUDIT: phase.WAIT_AUDIT},
        phase.WAIT_AUDIT: {event.HASHES_AFTER: phase.LOAD},
        phase.LOAD: {event.DISKS_HASHED: phase.LOAD, event.DISK_HASHES: phase.LOAD, event.APPLIED: phase.DONE},
        phase.DONE: {event.DISKS_HASHED: phase.DONE},
    }


# ---- a syncvm: the secondary ---------------------------------------------------------------------------------
class SecondaryPhase(Phase):
    ORDERED = "ordered", "feeds all input before the entry"
    DRAIN = "drain", "waits until the VM is idle, for a limited time"
    STOP = "stop", "stops the VM at the entry"
    EXCHANGE = "exchange", "sends its dirty bitmap"
    HASH = "hash", "hashes the pages that either VM has written"
    STAGE = "stage", "sends its hashes; stages pages and blocks beside guest memory"
    HASH_BLOCKS = "hash-blocks", "hashes the blocks of the divergent pages"
    WAIT_AUDIT = "wait-audit", "has verified and applied all pages and said so; resets the devices, hashes all memory"
    LOAD = "load", "has verified and applied all pages and said so; loads the device state"
    HASH_DISKS = "hash-disks", "hashes its images; the VM runs"
    DONE = "done", "has said that the syncvm is applied; the VM runs"


class SecondaryEvent(Event):
    REACHED = "entry reached"
    DRAINED = "drained"
    VM_STOPPED = "vm_stopped"
    BITMAP = "Bitmap", BY_PEER
    BOTH_BITMAPS = "both bitmaps"
    BOTH_BITMAPS_CHECKPOINT = "both bitmaps (checkpoint)"
    HASHED = "hashed"
    DIVERGENT = "Divergent", BY_PEER
    BLOCKS_HASHED = "blocks_hashed"
    STAGE_BLOCKS = "StageBlocks", BY_PEER
    STAGE_PAGES = "StagePages", BY_PEER
    STAGE_END = "StageEnd", BY_PEER
    VERIFIED = "all verified"
    VERIFIED_AUDIT = "all verified (audit)"
    VM_RESET = "vm_reset"
    LOADED = "colo_loaded"
    LOADED_AUDIT_DISKS = "colo_loaded (audit of disks)"
    DISKS_HASHED = "disks_hashed"


def _secondary() -> Table[SecondaryPhase]:
    phase, event = SecondaryPhase, SecondaryEvent
    return {
        phase.ORDERED: {event.BITMAP: phase.ORDERED, event.REACHED: phase.DRAIN},
        phase.DRAIN: {event.BITMAP: phase.DRAIN, event.DRAINED: phase.STOP},
        phase.STOP: {event.BITMAP: phase.STOP, event.VM_STOPPED: phase.EXCHANGE},
        phase.EXCHANGE: {event.BITMAP: phase.EXCHANGE, event.BOTH_BITMAPS: phase.HASH, event.BOTH_BITMAPS_CHECKPOINT: phase.STAGE},
        phase.HASH: {event.HASHED: phase.STAGE},
        phase.STAGE: {
            event.STAGE_BLOCKS: phase.STAGE,
            event.STAGE_PAGES: phase.STAGE,
            event.STAGE_END: phase.STAGE,
            event.DIVERGENT: phase.HASH_BLOCKS,
            event.VERIFIED: phase.LOAD,
            event.VERIFIED_AUDIT: phase.WAIT_AUDIT,
        },
        phase.HASH_BLOCKS: {event.BLOCKS_HASHED: phase.STAGE},
        phase.WAIT_AUDIT: {event.VM_RESET: phase.WAIT_AUDIT, event.HASHED: phase.LOAD},
        phase.LOAD: {event.LOADED: phase.DONE, event.LOADED_AUDIT_DISKS: phase.HASH_DISKS},
        phase.HASH_DISKS: {event.DISKS_HASHED: phase.DONE},
        phase.DONE: {},
    }


# ---- an initial sync: the leader -----------------------------------------------------------------------------
class LeaderSyncPhase(Phase):
    OPEN = "open", "starts dirty tracking"
    COPY = "copy", "copies the disks; the VM serves"
    LIVE = "live", "sends rounds of pages; the VM serves"
    DRAIN = "drain", "waits until the VM is idle, for a limited time"
    STOP = "stop", "stops the VM; from here on output depends on the new secondary too"
    ATTACH = "attach", "copies the rest of the disks; from here on each write goes to both images"
    CAPTURE = "capture", "captures the device stream"
    FINAL = "final", "sends the last pages, or the pages that differed"
    CHECK = "check", "hashes all memory, compares it with the secondary's"
    CHECKED = "checked", "has found all memory equal"
    LOADING = "loading", "has sent the device stream; without disks the VM runs on"
    RECORDING = "recording", "has the new secondary recorded in sync; the VM runs"


class LeaderSyncEvent(Event):
    TRACKER_OPEN = "tracker_open"
    TRACKER_OPEN_DISKS = "tracker_open (with disks)"
    DISKS_COPIED = "disks_copied"
    DIRTY_FETCHED = "dirty_fetched"
    FEW_DIRTY = "few pages dirty, or enough rounds"
    DRAINED = "drained"
    VM_STOPPED = "vm_stopped"
    VM_STOPPED_DISKS = "vm_stopped (with disks)"
    DISKS_ATTACHED = "disks_attached"
    STREAM_CAPTURED = "stream_captured"
    PAGES_SENT = "pages sent"
    HASHED = "hashed"
    FILL_HASHES = "FillHashes", BY_PEER
    EQUAL = "all equal"
    DIFFERENT = "some differ"
    ENDED = "all on its way"
    FILL_DONE = "FillDone", BY_PEER


def _leader_sync() -> Table[LeaderSyncPhase]:
    phase, event = LeaderSyncPhase, LeaderSyncEvent
    return {
        phase.OPEN: {event.TRACKER_OPEN: phase.LIVE, event.TRACKER_OPEN_DISKS: phase.COPY},
        phase.COPY: {event.DISKS_COPIED: phase.LIVE},
        phase.LIVE: {event.DIRTY_FETCHED: phase.LIVE, event.FEW_DIRTY: phase.DRAIN},
        phase.DRAIN: {event.DRAINED: phase.STOP},
        phase.STOP: {event.VM_STOPPED: phase.CAPTURE, event.VM_STOPPED_DISKS: phase.ATTACH},
        phase.ATTACH: {event.DISKS_ATTACHED: phase.CAPTURE},
        phase.CAPTURE: {event.STREAM_CAPTURED: phase.FINAL},
        phase.FINAL: {event.PAGES_SENT: phase.CHECK, event.ENDED: phase.LOADING},
        phase.CHECK: {event.HASHED: phase.CHECK, event.FILL_HASHES: phase.CHECK, event.EQUAL: phase.CHECKED, event.DIFFERENT: phase.FINAL},
        phase.CHECKED: {event.ENDED: phase.LOADING},
        phase.LOADING: {event.FILL_DONE: phase.RECORDING},
        phase.RECORDING: {},
    }


# ---- an initial sync: the new secondary ----------------------------------------------------------------------
class SecondarySyncPhase(Phase):
    RECEIVE = "receive", "writes pages straight into the memory of its empty QEMU"
    HASH = "hash", "hashes all memory, part by part"
    OPEN = "open", "starts dirty tracking"
    FEED = "feed", "loads the device stream"
    DONE = "done", "has said that it is loaded; the VM runs"


class SecondarySyncEvent(Event):
    FILL_PAGES = "FillPages", BY_PEER
    FILL_CHECK = "FillCheck", BY_PEER
    HASHED = "hashed"
    ALL_HASHED = "all hashed"
    FILL_STATE = "FillState", BY_PEER
    TRACKER_OPEN = "tracker_open"
    COLO_READY = "colo_ready"


def _secondary_sync() -> Table[SecondarySyncPhase]:
    phase, event = SecondarySyncPhase, SecondarySyncEvent
    return {
        phase.RECEIVE: {event.FILL_PAGES: phase.RECEIVE, event.FILL_CHECK: phase.HASH, event.FILL_STATE: phase.OPEN},
        phase.HASH: {event.HASHED: phase.HASH, event.ALL_HASHED: phase.RECEIVE},
        phase.OPEN: {event.TRACKER_OPEN: phase.FEED},
        phase.FEED: {event.COLO_READY: phase.DONE},
        phase.DONE: {},
    }


LEADER, SECONDARY, LEADER_SYNC, SECONDARY_SYNC = _leader(), _secondary(), _leader_sync(), _secondary_sync()
