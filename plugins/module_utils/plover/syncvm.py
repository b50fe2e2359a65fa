# SPDX-License-Identifier: GPL-3.0-or-later
"""One syncvm, from stop to loaded, on each side (paper §4.4; design §2, invariant 4). Sans-I/O.

    leader     drain  stop ──bitmap──▶ hash ◀─hashes── compare ──pages, device state──▶ … ◀─staged── resume … ◀─applied
    secondary  drain  stop ◀─bitmap──▶ hash ──hashes──▶          staging buffer, verify ──staged──▶ apply, load ──applied──▶

Both stop at the same log index. Each handler returns actions; a message out of place raises WireError.
"""
from __future__ import annotations

from array import array
from typing import NamedTuple

from . import actions as act
from . import pages as pg
from . import wire
from .errors import WireError
from .log import NUMBER

ORDERED, DRAIN, STOP, EXCHANGE, HASH, COMPARE, STAGE, WAIT_STAGED, WAIT_AUDIT, LOAD, DONE = (
    "ordered", "drain", "stop", "exchange", "hash", "compare", "stage", "wait-staged", "wait-audit", "load", "done")


MEMORY, DISKS = 1, 2  # what an audit compares; DISKS: both


class Figures(NamedTuple):
    """What one syncvm cost. Pages of 4096 bytes; ``bytes`` sent to the secondary."""

    number: int
    pause_ms: float
    dirty_pages: int
    divergent_pages: int
    bytes: int
    audit: bool = False
    untracked: int = 0  # audit: pages that differed though no side reported a write
    mismatching: int = 0  # audit: pages that differ after all was applied
    disk_blocks: int = 0  # audit of disks: compared
    disk_blocks_mismatching: int = 0

    @property
    def same_page_percent(self) -> float:
        return 100.0 * (1 - self.divergent_pages / self.dirty_pages) if self.dirty_pages else 100.0


def chain_digest(memory: act.Memory, digest: int, data: bytes) -> int:
    """Digest of all that was staged so far and ``data``."""
    return memory.digest(NUMBER.pack(digest) + NUMBER.pack(memory.digest(data)))


class LeaderSyncvm:
    def __init__(self, view: int, number: int, audit: int, memory: act.Memory, whole: bool = False) -> None:
        """``whole``: a checkpoint as Remus makes it: at once, and all that was written is sent unseen."""
        self.view, self.number, self.audit, self._memory = view, number, audit, memory
        self._whole = whole and not audit
        self.phase = ORDERED
        self.vm_runs = False  # again, since the stop
        self.started = self.stopped_at = self.loading_since = self.resumed_at = 0.0
        self._disk_hashes: bytes | None = None
        self._peer_disk_hashes: bytes | None = None
        self.tag = ("syncvm", view, number)
        self._own: bytearray | None = None
        self._peer: bytes | None = None
        self._index = array("I")
        self._hashes: array | None = None
        self._peer_hashes: array | None = None
        self._divergent = array("I")
        self._device: bytes | None = None
        self._sent = self._bytes = self._digest = self._dirty = self._untracked = self._mismatching = 0

    def start(self, now: float) -> list:
        self.phase, self.started = DRAIN, now
        return self.drained(now) if self._whole else [act.Drain(self.tag)]

    def drained(self, now: float) -> list:
        if self.phase != DRAIN:
            return []
        self.phase, self.stopped_at = STOP, now
        return [act.StopVm(self.tag)]

    def vm_stopped(self) -> list:
        self.phase = EXCHANGE
        self._own = self._memory.fetch_dirty()
        out = [act.SaveDevice(self.tag),
               act.SendData(wire.Bitmap(self.view, self.number, self.audit, bytes(self._own)))]
        return out + self._exchanged()

    def device_saved(self, state: bytes) -> list:
        self._device = state
        return self._end_of_stage()

    def on_bitmap(self, m: wire.Bitmap) -> list:
        pg.check_bitmap(m.payload, self._memory.pages)
        if self._peer is not None:
            raise WireError(f"second dirty bitmap for syncvm {self.number}")
        self._peer = m.payload
        return self._exchanged()

    def _exchanged(self) -> list:
        if self._own is None or self._peer is None:
            return []
        self._index = self._memory.union(self._own, self._peer)
        self._dirty = len(self._index)
        if self.audit:
            self._index = pg.all_pages(self._memory.pages)
        if self._whole:
            self._divergent, self.phase = self._index, STAGE
            return self.writable()
        self.phase = HASH
        return [act.Hash(self.tag, self._index)]

    def hashed(self, hashes: array) -> list:
        self._hashes = hashes
        return self._compared()

    def on_hashes(self, m: wire.Hashes) -> list:
        hashes = array("Q")
        if len(m.payload) != 8 * len(self._index) or self._own is None:
            raise WireError(f"{len(m.payload)} bytes of hashes for {len(self._index)} pages")
        hashes.frombytes(m.payload)
        if m.after:
            return self._audited(hashes)
        if self._peer_hashes is not None:
            raise WireError(f"second hash list for syncvm {self.number}")
        self._peer_hashes = hashes
        return self._compared()

    def _compared(self) -> list:
        if self._hashes is None or self._peer_hashes is None:
            return []
        self._divergent = self._memory.compare(self._hashes, self._peer_hashes, self._index)
        if self.audit:
            tracked = set(self._memory.pages_of(self._own))
            self._untracked = sum(page not in tracked for page in self._divergent)
        self.phase = STAGE
        return self.writable()

    def writable(self) -> list:
        """Send the next divergent pages; the shell calls again when the channel has room."""
        if self.phase != STAGE:
            return []
        out: list = []
        if self._sent < len(self._divergent):
            index = self._divergent[self._sent:self._sent + pg.CHUNK_PAGES]
            payload = pg.pack(index, self._memory.gather(index))
            self._sent += len(index)
            self._bytes += len(payload)
            self._digest = chain_digest(self._memory, self._digest, payload)
            out.append(act.SendData(wire.StagePages(self.view, self.number, len(index), payload)))
        return out + ([act.Yield()] if self._sent < len(self._divergent) else self._end_of_stage())

    def _end_of_stage(self) -> list:
        if self.phase != STAGE or self._device is None or self._sent < len(self._divergent):
            return []
        self.phase = WAIT_STAGED
        self._bytes += len(self._device)
        digest = chain_digest(self._memory, self._digest, self._device)
        return [act.SendData(wire.StageEnd(self.view, self.number, self._sent, digest, self._device))]

    @property
    def captured(self) -> bool:
        """What this syncvm sends no longer changes with our VM's memory. An audit looks at it once more."""
        return self.phase == WAIT_STAGED and not self.audit

    def on_staged(self) -> None:
        if self.phase != WAIT_STAGED:
            raise WireError(f"syncvm {self.number} acknowledged in phase {self.phase}")
        self.phase = WAIT_AUDIT if self.audit else LOAD

    def _audited(self, after: array) -> list:
        if self.phase != WAIT_AUDIT or self._hashes is None:
            raise WireError(f"audit hashes in phase {self.phase}")
        # Our VM is still stopped since its pages were hashed.
        self._mismatching = len(self._memory.compare(self._hashes, after, self._index))
        self.phase = LOAD
        return []

    def on_applied(self) -> None:
        if self.phase != LOAD:
            raise WireError(f"syncvm {self.number} applied in phase {self.phase}")
        self.phase = DONE

    @property
    def waits_for_own_qemu(self) -> bool:
        """Our own QEMU has not answered yet: what takes long is not the secondary's doing."""
        return self.phase == STOP or (self.phase in (EXCHANGE, HASH, STAGE) and self._device is None)

    def waits_for_peer_qemu(self, now: float) -> float:
        """For how long, in seconds, the secondary's QEMU owes us an answer: to stop, or to load."""
        if self.phase == EXCHANGE and self._peer is None:
            return now - self.stopped_at
        return now - self.loading_since if self.phase == LOAD else 0.0

    @property
    def peer_stopped(self) -> bool:
        return self._peer is not None

    def abandon(self) -> None:
        """Given up: what was dirty before it is so still. The secondary may have taken it all the same; no harm."""
        if self._own is not None:
            self._memory.put_back(self._own)

    def figures(self) -> Figures:
        return Figures(self.number, round(1000 * (self.resumed_at - self.stopped_at), 3), self._dirty,
                       len(self._divergent), self._bytes, bool(self.audit), self._untracked, self._mismatching,
                       *self._disk_figures())

    # ---- an audit of disks: the images, while our VM stands still and all that the secondary's wrote is gone ----
    def disks_hashed(self, hashes: bytes) -> None:
        self._disk_hashes = hashes

    def on_disk_hashes(self, m: wire.DiskHashes) -> None:
        if self.phase != LOAD or self.audit != DISKS or self._peer_disk_hashes is not None:
            raise WireError(f"hashes of disks in phase {self.phase} of syncvm {self.number}")
        self._peer_disk_hashes = m.payload

    @property
    def disks_compared(self) -> bool:
        return self.audit != DISKS or None not in (self._disk_hashes, self._peer_disk_hashes)

    def _disk_figures(self) -> tuple[int, int]:
        """(blocks, how many differ)"""
        if self.audit != DISKS:
            return 0, 0
        ours, theirs = array("Q", self._disk_hashes), array("Q", self._peer_disk_hashes)
        return max(len(ours), len(theirs)), sum(a != b for a, b in zip(ours, theirs)) + abs(len(ours) - len(theirs))


class SecondarySyncvm:
    def __init__(self, view: int, number: int, memory: act.Memory, whole: bool = False) -> None:
        self.view, self.number, self._memory, self._whole = view, number, memory, whole
        self.phase = ORDERED  # the leader's bitmap may come before we reach the log entry
        self.started = 0.0
        self.limit_s: float | None = None
        self.tag = ("syncvm", view, number)
        self._own: bytearray | None = None
        self._peer: wire.Bitmap | None = None
        self._index = array("I")
        self._staged: list[tuple[array, memoryview]] = []
        self._pages = self._digest = 0
        self._device = b""

    def start(self, now: float, limit_s: float | None = None) -> list:
        """``limit_s``: for the wait until our VM is idle, see drain.py."""
        self.phase, self.started, self.limit_s = DRAIN, now, limit_s
        return self.drained(now) if self._whole else [act.Drain(self.tag, limit_s)]

    def drained(self, now: float) -> list:
        if self.phase != DRAIN:
            return []
        self.phase = STOP
        return [act.ColoStop(self.tag)]

    def vm_stopped(self) -> list:
        self.phase = EXCHANGE
        self._own = self._memory.fetch_dirty()
        return [act.SendData(wire.Bitmap(self.view, self.number, False, bytes(self._own)))] + self._exchanged()

    def on_bitmap(self, m: wire.Bitmap) -> list:
        pg.check_bitmap(m.payload, self._memory.pages)
        if self._peer is not None:
            raise WireError(f"second dirty bitmap for syncvm {self.number}")
        self._peer = m
        return self._exchanged()

    def _exchanged(self) -> list:
        if self._own is None or self._peer is None:
            return []
        self._index = self._memory.union(self._own, self._peer.payload)
        if self._peer.audit:
            self._index = pg.all_pages(self._memory.pages)
        elif self._whole:
            self.phase = STAGE
            return []
        self.phase = HASH
        return [act.Hash(self.tag, self._index)]

    def hashed(self, hashes: array) -> list:
        after = self.phase == WAIT_AUDIT
        out: list = [act.SendData(wire.Hashes(self.view, self.number, after, hashes.tobytes()))]
        if after:
            return out + self._load()
        self.phase = STAGE
        return out

    def on_stage_pages(self, m: wire.StagePages) -> list:
        if self.phase != STAGE:
            raise WireError(f"pages for staging in phase {self.phase}")
        index, data = pg.unpack(m.count, m.payload, self._memory.pages)
        self._pages += m.count
        if self._pages > len(self._index):
            raise WireError(f"{self._pages} pages staged, only {len(self._index)} are dirty")
        self._digest = chain_digest(self._memory, self._digest, m.payload)
        self._staged.append((index, data))
        return []

    def on_stage_end(self, m: wire.StageEnd) -> list:
        """All is here and verified: acknowledge, and only then touch guest memory."""
        if self.phase != STAGE:
            raise WireError(f"end of staging in phase {self.phase}")
        if m.pages != self._pages or m.digest != chain_digest(self._memory, self._digest, m.payload):
            raise WireError(f"syncvm {self.number}: staged {self._pages} pages do not fit the leader's digest")
        self._device = m.payload
        out: list = [act.SendData(wire.Staged(self.view, self.number))]
        for index, data in self._staged:
            self._memory.apply(index, data)
        self._staged = []
        if self._peer is not None and self._peer.audit:
            self.phase = WAIT_AUDIT
            return out + [act.Hash(self.tag, self._index)]
        return out + self._load()

    def _load(self) -> list:
        self.phase = LOAD
        return [act.ColoLoad(self.tag, self._device, runs=not self._whole)]

    def abandon(self) -> None:
        """Given up before all was here. The VM stands still where it is, until the next syncvm."""
        if self._own is not None:
            self._memory.put_back(self._own)

    @property
    def holds_new_state(self) -> bool:
        """Everything was staged: the only way is forward, to the end of the load."""
        return self.phase in (WAIT_AUDIT, LOAD)

    def loaded(self) -> list:
        if self._peer is not None and self._peer.audit == DISKS:
            return [act.HashDisks(self.tag)]
        self.phase = DONE
        return [act.SendData(wire.Applied(self.view, self.number))]

    def disks_hashed(self, hashes: bytes) -> list:
        self.phase = DONE
        return [act.SendData(wire.DiskHashes(self.view, self.number, hashes)),
                act.SendData(wire.Applied(self.view, self.number))]
