# SPDX-License-Identifier: GPL-3.0-or-later
"""One syncvm, from stop to loaded, on each side (paper §4.4; docs/ARCHITECTURE.md, "syncvm"; invariant 4). Sans-I/O.

    leader     drain  stop ──bitmap──▶ hash ◀─hashes── compare ──pages, device state──▶ … ◀─staged── resume … ◀─applied
    secondary  drain  stop ◀─bitmap──▶ hash ──hashes──▶          staging buffer, verify ──staged──▶ apply, load ──applied──▶

If many pages diverge, they are compared block by block first (syncvm/block_deltas.py), and only blocks are sent; of the device state
what differs from the one before. What then does not come out right on the secondary, it asks for whole, once.

    leader     compare ──divergent pages──▶               ◀─block hashes── compare ──blocks, device state──▶ …
    secondary                              hash blocks    ──block hashes──▶        copies of pages, patched, verified

Both stop at the same log index. Each handler returns actions; a message out of place raises WireError.
"""
from __future__ import annotations

from array import array
from bisect import bisect_left
from dataclasses import replace

from ..errors import WireError
from ..ports import effects as act
from ..protocol import pages as pg
from ..protocol import wire
from ..protocol.packing import pack_bitmap, pack_state, unpack_bitmap
from . import block_deltas as pt
from .figures import Figures
from .staging import Staging, chain_digest

ORDERED, DRAIN, STOP, EXCHANGE, HASH, COMPARE, STAGE, PACK, WAIT_STAGED, WAIT_AUDIT, LOAD, HASH_DISKS, DONE = (
    "ordered", "drain", "stop", "exchange", "hash", "compare", "stage", "pack", "wait-staged", "wait-audit", "load",
    "hash-disks", "done")


MEMORY, DISKS = 1, 2  # what an audit compares; DISKS: both


class LeaderSyncvm:
    def __init__(self, view: int, number: int, audit: int, memory: act.Memory, base: bytes = b"",
                 whole: bool = False) -> None:
        """``base``: the device state that the secondary holds; empty: not known.

        ``whole``: a checkpoint as Remus makes it: at once, and all that was written is sent unseen.
        """
        self.view, self.number, self.audit, self._memory = view, number, audit, memory
        self._whole = whole and not audit
        self.phase = ORDERED
        self.vm_runs = False  # again, since the stop
        self.due_at = self.started = self.stopped_at = self.loading_since = self.resumed_at = 0.0
        self.drain_s = 0.0  # our VM may rest so long before it is stopped
        self._disk_hashes: bytes | None = None
        self._peer_disk_hashes: bytes | None = None
        self.tag = ("syncvm", view, number)
        self._own: bytearray | None = None
        self._peer: bytes | None = None
        self._index = array("I")
        self._hashes: array | None = None
        self._peer_hashes: array | None = None
        self._divergent = array("I")
        self._divergent_hashes = array("Q")  # ours, of the divergent pages
        self._block_hashes: array | None = None  # the secondary's, of the divergent pages
        self._queue, self._next = array("I"), 0  # pages to send, how many are sent
        self._lent = False  # pages of ours are read as they are sent: our VM must stand still until all is there
        self._parts: list[wire.StageBlocks] = []  # what is sent as blocks, not packed yet
        self._copies: list[memoryview] = []  # the divergent pages, of which blocks were sent, chunk by chunk
        self._resent = False
        self._device: bytes | None = None
        self._base = base
        self._digest = self._dirty = self._untracked = self._mismatching = 0
        self._sent = dict.fromkeys(("bitmaps", "hashes", "pages", "blocks", "device"), 0)

    def start(self, now: float) -> list:
        self.phase, self.started = DRAIN, now
        return self.drained(now) if self._whole else [act.Drain(self.tag, self.drain_s)]

    def drained(self, now: float) -> list:
        if self.phase != DRAIN:
            return []
        self.phase, self.stopped_at = STOP, now
        return [act.StopVm(self.tag, dirty=True)]

    def vm_stopped(self) -> list:
        self.phase = EXCHANGE
        self._own = self._memory.fetch_dirty()
        packed = pack_bitmap(self._memory, self._own)
        self._sent["bitmaps"] += len(packed)
        out = [act.SaveDevice(self.tag), act.SendData(wire.Bitmap(self.view, self.number, self.audit, packed))]
        return out + self._exchanged()

    def device_saved(self, state: bytes) -> list:
        self._device = state
        return self._end_of_stage()

    def on_bitmap(self, m: wire.Bitmap) -> list:
        if self._peer is not None:
            raise WireError(f"second dirty bitmap for syncvm {self.number}")
        self._peer = unpack_bitmap(self._memory, m.payload, self._memory.pages)
        self._sent["bitmaps"] += len(m.payload)
        return self._exchanged()

    def _exchanged(self) -> list:
        if self._own is None or self._peer is None:
            return []
        self._index = self._memory.union(self._own, self._peer)
        self._dirty = len(self._index)
        if self.audit:
            self._index = pg.all_pages(self._memory.pages)
        if self._whole:
            self._divergent = self._index
            return self._stage(self._divergent)
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
        self._sent["hashes"] += len(m.payload)
        if m.after:
            return self._audited(hashes)
        if self._peer_hashes is not None:
            raise WireError(f"second hash list for syncvm {self.number}")
        self._peer_hashes = hashes
        return self._compared()

    def _compared(self) -> list:
        if self._hashes is None or self._peer_hashes is None:
            return []
        # First the positions in the index: they tell the secondary, too, which pages are meant.
        places = self._memory.compare(self._hashes, self._peer_hashes)
        self._divergent = array("I", map(self._index.__getitem__, places))
        if self.audit:
            tracked = set(self._memory.pages_of(self._own))
            self._untracked = sum(page not in tracked for page in self._divergent)
        if not pt.pay(len(places)):
            return self._stage(self._divergent)
        self.phase = COMPARE
        self._divergent_hashes = array("Q", map(self._hashes.__getitem__, places))
        payload = bytes(self._memory.bitmap_of(places, len(self._index)))
        self._sent["bitmaps"] += len(payload)
        return [act.SendData(wire.Divergent(self.view, self.number, payload))]

    def on_block_hashes(self, m: wire.BlockHashes) -> list:
        if self.phase != COMPARE:
            raise WireError(f"hashes of blocks in phase {self.phase} of syncvm {self.number}")
        self._block_hashes = pt.hashes_of(m.payload, len(self._divergent))
        self._sent["hashes"] += len(m.payload)
        return self._stage(self._divergent)

    def _stage(self, pages: array) -> list:
        self.phase, self._queue, self._next = STAGE, pages, 0
        return self.writable()

    def writable(self) -> list:
        """Send the next divergent pages, or copy their blocks; the shell calls again when the channel has room."""
        if self.phase != STAGE:
            return []
        out: list = []
        if self._next < len(self._queue):
            index = self._queue[self._next:self._next + pg.CHUNK_PAGES]
            if self._block_hashes is None:
                out.append(act.SendData(self._pages(index)))
            else:
                self._parts.append(self._blocks(index))
                self._digest = chain_digest(self._memory, self._digest, self._parts[-1].payload)
            self._next += len(index)
        return out + ([act.Yield()] if self._next < len(self._queue) else self._end_of_stage())

    def _pages(self, index: array) -> wire.StagePages:
        data = self._copied(index) if self._resent else self._memory.lend(index)
        lent = isinstance(data, pg.PageRun)
        self._lent = self._lent or lent
        hashes = self._memory.hash(index) if lent else self._memory.hashes_of(data)
        self._digest = chain_digest(self._memory, self._digest, pg.digest_of(index, hashes))
        payload = pg.pack(index, data)
        self._sent["pages"] += len(payload)
        return wire.StagePages(self.view, self.number, len(index), payload)

    def _blocks(self, index: array) -> wire.StageBlocks:
        first, last, blocks = self._next, self._next + len(index), pt.page_blocks()
        masks = self._memory.block_masks(index, self._block_hashes[first * blocks:last * blocks])
        payload = pt.pack(masks, self._divergent_hashes[first:last], self._memory.gather_blocks(index, masks))
        self._copies.append(memoryview(self._memory.gather(index)))
        return wire.StageBlocks(self.view, self.number, len(index), payload)

    def _copied(self, index: array) -> bytes:
        """Pages as they were when their blocks were sent: memory may be another by the time one is asked for again."""
        places, size = (bisect_left(self._divergent, page) for page in index), pg.PAGE_BYTES
        return b"".join(self._copies[place // pg.CHUNK_PAGES][place % pg.CHUNK_PAGES * size:][:size] for place in places)

    def _end_of_stage(self) -> list:
        if self.phase != STAGE or self._device is None or self._next < len(self._queue):
            return []
        if self._parts:  # all is copied: our VM may run on while they are packed
            self.phase = PACK
            return [act.Pack(self.tag, [part.payload for part in self._parts])]
        return self._all_sent()

    def packed(self, payloads: list[bytes]) -> list:
        out: list = [act.SendData(replace(part, payload=payload)) for part, payload in zip(self._parts, payloads)]
        self._sent["blocks"] += sum(map(len, payloads))
        self._parts = []
        return out + self._all_sent()

    def _all_sent(self) -> list:
        self.phase = WAIT_STAGED
        base = self._base if len(self._base) == len(self._device) else b""
        payload = pack_state(self._memory, self._device, base)
        self._sent["device"] += len(payload)
        digest = chain_digest(self._memory, self._digest, self._device)
        return [act.SendData(wire.StageEnd(self.view, self.number, len(self._divergent), digest,
                                           self._memory.digest(base) if base else 0, len(self._device), payload))]

    def on_resend(self, m: wire.Resend) -> list:
        """Not all came out right over there: send that whole."""
        if self.phase != WAIT_STAGED or self._resent:
            raise WireError(f"asked to send again in phase {self.phase} of syncvm {self.number}")
        pages = pt.asked_again(m.payload, self._divergent if self._copies else array("I"))
        self._resent, self._block_hashes = True, None
        if m.device:
            self._base = b""
        return self._stage(pages)

    @property
    def captured(self) -> bool:
        """What this syncvm sends no longer changes with our VM's memory. An audit looks at it once more."""
        return self.phase in (PACK, WAIT_STAGED) and not self.audit and not self._lent

    def on_staged(self) -> None:
        if self.phase != WAIT_STAGED:
            raise WireError(f"syncvm {self.number} acknowledged in phase {self.phase}")
        self.phase = WAIT_AUDIT if self.audit else LOAD
        self._copies = []

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
        return self.phase == STOP or (self.phase in (EXCHANGE, HASH, COMPARE, STAGE) and self._device is None)

    def waits_for_peer_qemu(self, now: float) -> float:
        """For how long, in seconds, the secondary's QEMU owes us an answer: to stop, or to load."""
        if self.phase == EXCHANGE and self._peer is None:
            return now - self.stopped_at
        return now - self.loading_since if self.phase == LOAD else 0.0

    @property
    def device(self) -> bytes:
        """The device state that was sent."""
        return self._device or b""

    @property
    def peer_stopped(self) -> bool:
        return self._peer is not None

    def abandon(self) -> None:
        """Given up: what was dirty before it is so still. The secondary may have taken it all the same; no harm."""
        if self._own is not None:
            self._memory.put_back(self._own)

    def figures(self) -> Figures:
        return Figures(self.number, round(1000 * (self.resumed_at - self.stopped_at), 3), self._dirty,
                       len(self._divergent), sum(self._sent[kind] for kind in ("pages", "blocks", "device")),
                       bool(self.audit), self._untracked, self._mismatching, *self._disk_figures(), self._sent)

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
    def __init__(self, view: int, number: int, memory: act.Memory, base: bytes = b"", whole: bool = False) -> None:
        """``base``: the device state that was staged before this one; empty: none of this view."""
        self.view, self.number, self._memory, self._whole = view, number, memory, whole
        self.phase = ORDERED  # the leader's bitmap may come before we reach the log entry
        self.started = 0.0
        self.limit_s: float | None = None
        self.tag = ("syncvm", view, number)
        self._own: bytearray | None = None
        self._peer: wire.Bitmap | None = None
        self._index = array("I")
        self._base = base
        self._staging = Staging(self._index, memory, base)

    def start(self, now: float, limit_s: float | None = None) -> list:
        """``limit_s``: for the wait until our VM is idle, see syncvm/quiesce.py."""
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
        return [act.SendData(wire.Bitmap(self.view, self.number, False, pack_bitmap(self._memory, self._own)))] + self._exchanged()

    def on_bitmap(self, m: wire.Bitmap) -> list:
        if self._peer is not None:
            raise WireError(f"second dirty bitmap for syncvm {self.number}")
        self._peer = replace(m, payload=unpack_bitmap(self._memory, m.payload, self._memory.pages))
        return self._exchanged()

    def _exchanged(self) -> list:
        if self._own is None or self._peer is None:
            return []
        self._index = self._memory.union(self._own, self._peer.payload)
        if self._peer.audit:
            self._index = pg.all_pages(self._memory.pages)
        self._staging = Staging(self._index, self._memory, self._base)
        if self._whole and not self._peer.audit:
            self.phase = STAGE
            return []
        self.phase = HASH
        return [act.Hash(self.tag, self._index)]

    def hashed(self, hashes: array) -> list:
        after = self.phase == WAIT_AUDIT
        out: list = [act.SendData(wire.Hashes(self.view, self.number, after, hashes.tobytes()))]
        if after:
            return out + self._load(reset=False)
        self.phase = STAGE
        return out

    def on_staging(self, m: wire.Divergent | wire.StageBlocks | wire.StagePages) -> list:
        if self.phase != STAGE:
            raise WireError(f"{type(m).__name__} in phase {self.phase}")
        if isinstance(m, wire.Divergent):
            return [act.HashBlocks(self.tag, self._staging.on_divergent(m))]
        (self._staging.on_blocks if isinstance(m, wire.StageBlocks) else self._staging.on_pages)(m)
        return []

    def blocks_hashed(self, hashes: array) -> list:
        return [act.SendData(wire.BlockHashes(self.view, self.number, hashes.tobytes()))]

    def on_stage_end(self, m: wire.StageEnd) -> list:
        """All is here and verified: the pages are applied, then the leader hears of it, then the device state is loaded."""
        if self.phase != STAGE:
            raise WireError(f"end of staging in phase {self.phase}")
        if not self._staging.on_end(m):
            lacks_base = not self._staging.makes(m)
            return [act.SendData(wire.Resend(self.view, self.number, lacks_base, self._staging.wrong.tobytes()))]
        out: list = [act.SendData(wire.Staged(self.view, self.number))]
        self._staging.apply()
        if self._peer is not None and self._peer.audit:
            self.phase = WAIT_AUDIT
            return out + [act.ResetVm(self.tag)]
        return out + self._load()

    def vm_reset(self) -> list:
        """Of an audit: it looks at what the VM will run with, so also at what the reset in front of a load writes."""
        return [act.Hash(self.tag, self._index)] if self.phase == WAIT_AUDIT else []

    @property
    def device(self) -> bytes:
        """The device state that was staged."""
        return self._staging.device

    def _load(self, reset: bool = True) -> list:
        self.phase = LOAD
        return [act.ColoLoad(self.tag, self.device, runs=not self._whole, reset=reset)]

    def abandon(self) -> None:
        """Given up before all was here. The VM stands still where it is, until the next syncvm."""
        if self._own is not None:
            self._memory.put_back(self._own)

    @property
    def holds_new_state(self) -> bool:
        """Everything was staged: the only way is forward, to the end of the load, and of an audit."""
        return self.must_load or self.phase == HASH_DISKS

    @property
    def must_load(self) -> bool:
        """Pages are of the new state, devices not yet: our VM must not run, nor be promoted."""
        return self.phase in (WAIT_AUDIT, LOAD)

    def loaded(self) -> list:
        if self._peer is not None and self._peer.audit == DISKS:
            self.phase = HASH_DISKS  # of an audit; who is elected meanwhile does not wait for it
            return [act.HashDisks(self.tag)]
        self.phase = DONE
        return [act.SendData(wire.Applied(self.view, self.number))]

    def disks_hashed(self, hashes: bytes) -> list:
        self.phase = DONE
        return [act.SendData(wire.DiskHashes(self.view, self.number, hashes)),
                act.SendData(wire.Applied(self.view, self.number))]
