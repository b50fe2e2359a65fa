# SPDX-License-Identifier: GPL-3.0-or-later
"""The leader's side of one syncvm (paper §4.4; docs/ARCHITECTURE.md, "syncvm"; invariant 4). Sans-I/O.

Its phases are a table in syncvm/phases.py, drawn in docs/syncvm.md. Each handler returns the next effects; a
message out of place raises WireError. If many pages diverge, they are compared block by block first and only blocks are sent
(syncvm/block_deltas.py). The device state is sent as a difference to the one before. If something comes out wrong on the
secondary, it asks for that whole, once.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from dataclasses import replace
from typing import cast

from ..errors import WireError
from ..ports import effects
from ..protocol import pages as pg
from ..protocol import wire
from ..protocol.packing import pack_bitmap, pack_state, unpack_bitmap
from . import block_deltas as deltas
from .figures import NAMED_MAX, NOTHING, Figures
from .phase_machine import PhaseMachine
from .phases import DISKS, LEADER
from .phases import LeaderEvent as Event
from .phases import LeaderPhase as Phase
from .staging import chain_digest


class LeaderSyncvm:
    def __init__(
        self, view: int, number: int, audit: int, memory: effects.Memory, base: bytes = b"", whole: bool = False, scrub: range = NOTHING
    ) -> None:
        """``base``: the device state that the secondary holds; empty: unknown.

        ``whole``: a checkpoint like those of Remus: stop at once, send all dirty pages without comparing them.
        ``scrub``: pages to compare beside the dirty ones (core/scrub.py).
        """
        self.view, self.number, self.audit, self._memory = view, number, audit, memory
        self._whole = whole and not audit
        self._scrub = NOTHING if whole or audit else scrub
        self._machine = PhaseMachine(LEADER, Phase.ORDERED, f"syncvm {number}")
        self.vm_runs = False  # our VM runs again after the stop
        self.due_at = self.started = self.stopped_at = self.halted_at = self.loading_since = self.resumed_at = 0.0
        self.drain_s = 0.0  # how long our VM may quiesce before it is stopped
        self._disk_hashes: bytes | None = None
        self._peer_disk_hashes: bytes | None = None
        self.tag = ("syncvm", view, number)
        self._own: bytearray | None = None
        self._peer: bytes | None = None
        self._index = array("I")
        self._hashes: array[int] | None = None
        self._peer_hashes: array[int] | None = None
        self._divergent = array("I")
        self._divergent_hashes = array("Q")  # ours, of the divergent pages
        self._block_hashes: array[int] | None = None  # the secondary's, of the divergent pages
        self._queue, self._next = array("I"), 0  # pages to send, how many are sent
        self._lent = False  # the network card reads our pages as it sends them: our VM must stand still until all are sent
        self._parts: list[wire.StageBlocks] = []  # blocks to send, not packed yet
        self._copies: list[memoryview] = []  # copies of the divergent pages whose blocks were sent, chunk by chunk
        self._resent = False
        self._device: bytes | None = None
        self._base = base
        self._digest = self._dirty = self._mismatching = 0
        self._untracked = array("I")
        self._sent = dict.fromkeys(("bitmaps", "hashes", "pages", "blocks", "device"), 0)

    @property
    def phase(self) -> Phase:
        return self._machine.phase

    def start(self, now: float) -> list[effects.Effect]:
        self._machine.happened(Event.REACHED)
        self.started = now
        return self.drained(now) if self._whole else [effects.Drain(self.tag, self.drain_s)]

    def drained(self, now: float) -> list[effects.Effect]:
        self._machine.happened(Event.DRAINED)
        self.stopped_at = now
        return [effects.StopVm(self.tag, dirty=True)]

    def vm_stopped(self) -> list[effects.Effect]:
        self._machine.happened(Event.VM_STOPPED)
        self._own = self._memory.fetch_dirty()
        packed = pack_bitmap(self._memory, self._scrubbed(self._own))
        self._sent["bitmaps"] += len(packed)
        bitmap = wire.Bitmap(self.view, self.number, self.audit, packed)
        out: list[effects.Effect] = [effects.SaveDevice(self.tag), effects.SendData(bitmap)]
        return out + self._exchanged()

    def _scrubbed(self, bitmap: bytearray) -> bytearray:
        """``bitmap`` and the pages to scrub. So the secondary compares them like dirty ones."""
        if not self._scrub:
            return bitmap
        out = bytearray(bitmap)
        self._memory.union(out, self._memory.bitmap_of(array("I", self._scrub), self._memory.pages))
        return out

    def device_saved(self, state: bytes) -> list[effects.Effect]:
        self._machine.happened(Event.DEVICE_SAVED)
        self._device = state
        return self._end_of_stage()

    def on_bitmap(self, m: wire.Bitmap) -> list[effects.Effect]:
        if self._peer is not None:
            raise WireError(f"second dirty bitmap for syncvm {self.number}")
        self._machine.require(Event.BITMAP)
        self._peer = unpack_bitmap(self._memory, m.payload, self._memory.pages)
        self._sent["bitmaps"] += len(m.payload)
        return self._exchanged()

    def _exchanged(self) -> list[effects.Effect]:
        if self._own is None or self._peer is None:
            return []
        self._index = self._memory.union(self._own, self._peer)
        self._dirty = len(self._index)
        if self.audit:
            self._index = pg.all_pages(self._memory.pages)
        elif self._scrub:  # what either VM has written stays apart
            self._index = self._memory.pages_of(self._scrubbed(self._own))
        if self._whole:
            self._divergent = self._index
            return self._stage(Event.BOTH_BITMAPS_CHECKPOINT, self._divergent)
        self._machine.happened(Event.BOTH_BITMAPS)
        return [effects.Hash(self.tag, self._index)]

    def hashed(self, hashes: array[int]) -> list[effects.Effect]:
        self._machine.happened(Event.HASHED)
        self._hashes = hashes
        return self._compared()

    def on_hashes(self, m: wire.Hashes) -> list[effects.Effect]:
        event = Event.HASHES_AFTER if m.after else Event.HASHES
        self._machine.require(event)
        hashes = array("Q")
        if len(m.payload) != 8 * len(self._index):
            raise WireError(f"{len(m.payload)} bytes of hashes for {len(self._index)} pages")
        hashes.frombytes(m.payload)
        self._sent["hashes"] += len(m.payload)
        if m.after:
            # Our VM has been stopped since its pages were hashed.
            self._mismatching = len(self._memory.compare(self._hashes or array("Q"), hashes, self._index))
            self._machine.happened(event)
            return []
        if self._peer_hashes is not None:
            raise WireError(f"second hash list for syncvm {self.number}")
        self._machine.happened(event)
        self._peer_hashes = hashes
        return self._compared()

    def _compared(self) -> list[effects.Effect]:
        if self._own is None or self._hashes is None or self._peer_hashes is None:
            return []
        # Positions in the index, as the secondary is told the divergent pages by position.
        places = self._memory.compare(self._hashes, self._peer_hashes)
        self._divergent = array("I", map(self._index.__getitem__, places))
        self._untracked = self._not_reported(self._own)
        if not deltas.pay(len(places)):
            return self._stage(Event.FEW_DIVERGE, self._divergent)
        self._machine.happened(Event.MANY_DIVERGE)
        self._divergent_hashes = array("Q", map(self._hashes.__getitem__, places))
        payload = bytes(self._memory.bitmap_of(places, len(self._index)))
        self._sent["bitmaps"] += len(payload)
        return [effects.SendData(wire.Divergent(self.view, self.number, payload))]

    def _not_reported(self, written: bytearray) -> array[int]:
        """The divergent pages that neither side has reported as ``written``."""
        pages = self._divergent
        if not self.audit:
            pages = pages[bisect_left(pages, self._scrub.start) : bisect_left(pages, self._scrub.stop)]
        return array("I", (page for page in pages if not written[page // 8] >> page % 8 & 1))

    def on_block_hashes(self, m: wire.BlockHashes) -> list[effects.Effect]:
        self._machine.require(Event.BLOCK_HASHES)
        self._block_hashes = deltas.hashes_of(m.payload, len(self._divergent))
        self._sent["hashes"] += len(m.payload)
        return self._stage(Event.BLOCK_HASHES, self._divergent)

    def _stage(self, event: Event, pages: array[int]) -> list[effects.Effect]:
        self._machine.happened(event)
        self._queue, self._next = pages, 0
        return self.writable()

    def writable(self) -> list[effects.Effect]:
        """Send the next divergent pages, or copy their blocks; the shell calls again when the channel has room."""
        if self.phase != Phase.STAGE:
            return []
        out: list[effects.Effect] = []
        if self._next < len(self._queue):
            index = self._queue[self._next : self._next + pg.CHUNK_PAGES]
            if self._block_hashes is None:
                out.append(effects.SendData(self._pages(index)))
            else:
                self._parts.append(self._blocks(index, self._block_hashes))
                self._digest = chain_digest(self._memory, self._digest, self._parts[-1].payload)
            self._next += len(index)
        return out + ([effects.Yield()] if self._next < len(self._queue) else self._end_of_stage())

    def _pages(self, index: array[int]) -> wire.StagePages:
        data = self._copied(index) if self._resent else self._memory.lend(index)
        self._lent = self._lent or isinstance(data, pg.PageRun)
        hashes = self._memory.hash(index) if isinstance(data, pg.PageRun) else self._memory.hashes_of(data)
        self._digest = chain_digest(self._memory, self._digest, pg.digest_of(index, hashes))
        payload = pg.pack(index, data)
        self._sent["pages"] += len(payload)
        return wire.StagePages(self.view, self.number, len(index), cast(bytes, payload))  # Parts go out buffer by buffer

    def _blocks(self, index: array[int], theirs: array[int]) -> wire.StageBlocks:
        first, last, blocks = self._next, self._next + len(index), deltas.page_blocks()
        masks = self._memory.block_masks(index, theirs[first * blocks : last * blocks])
        payload = deltas.pack(masks, self._divergent_hashes[first:last], self._memory.gather_blocks(index, masks))
        self._copies.append(memoryview(self._memory.gather(index)))
        return wire.StageBlocks(self.view, self.number, len(index), payload)

    def _copied(self, index: array[int]) -> bytes:
        """Pages as they were when their blocks were sent: memory may have changed by the time one is asked for again."""
        places, size = (bisect_left(self._divergent, page) for page in index), pg.PAGE_BYTES
        return b"".join(self._copies[place // pg.CHUNK_PAGES][place % pg.CHUNK_PAGES * size :][:size] for place in places)

    def _end_of_stage(self) -> list[effects.Effect]:
        if self.phase != Phase.STAGE or self._device is None or self._next < len(self._queue):
            return []
        if self._parts:  # everything is copied: our VM may run on while they are packed
            self._machine.happened(Event.BLOCKS_COPIED)
            return [effects.Pack(self.tag, [part.payload for part in self._parts])]
        return self._end(Event.PAGES_SENT)

    def packed(self, payloads: list[bytes]) -> list[effects.Effect]:
        self._machine.require(Event.PACKED)
        out: list[effects.Effect] = [effects.SendData(replace(part, payload=payload)) for part, payload in zip(self._parts, payloads)]
        self._sent["blocks"] += sum(map(len, payloads))
        self._parts = []
        return out + self._end(Event.PACKED)

    def _end(self, event: Event) -> list[effects.Effect]:
        self._machine.happened(event)
        base = self._base if len(self._base) == len(self.device) else b""
        payload = pack_state(self._memory, self.device, base)
        self._sent["device"] += len(payload)
        digest = chain_digest(self._memory, self._digest, self.device)
        return [
            effects.SendData(
                wire.StageEnd(
                    self.view,
                    self.number,
                    len(self._divergent),
                    digest,
                    self._memory.digest(base) if base else 0,
                    len(self.device),
                    payload,
                )
            )
        ]

    def on_resend(self, m: wire.Resend) -> list[effects.Effect]:
        """Something came out wrong on the secondary: send it whole."""
        self._machine.require(Event.RESEND)
        if self._resent:
            raise WireError(f"syncvm {self.number}: asked to send again a second time")
        pages = deltas.asked_again(m.payload, self._divergent if self._copies else array("I"))
        self._resent, self._block_hashes = True, None
        if m.device:
            self._base = b""
        return self._stage(Event.RESEND, pages)

    @property
    def captured(self) -> bool:
        """Everything to send has been copied: our VM may change its memory. Not in an audit, which compares memory again."""
        return self.phase in (Phase.PACK, Phase.WAIT_STAGED) and not self.audit and not self._lent

    @property
    def all_sent(self) -> bool:
        """The secondary has, or may have, everything that it needs to load this syncvm."""
        return self.phase in (Phase.WAIT_STAGED, Phase.WAIT_AUDIT, Phase.LOAD, Phase.DONE)

    def on_staged(self) -> None:
        self._machine.happened(Event.STAGED_AUDIT if self.audit else Event.STAGED)
        self._copies = []

    def on_applied(self) -> None:
        self._machine.happened(Event.APPLIED)

    @property
    def waits_for_own_qemu(self) -> bool:
        """Our own QEMU has not answered yet: a delay is not the secondary's fault."""
        return self.phase == Phase.STOP or (self.phase in (Phase.EXCHANGE, Phase.HASH, Phase.COMPARE, Phase.STAGE) and self._device is None)

    def waits_for_peer_qemu(self, now: float) -> float:
        """For how many seconds we have waited for the secondary's QEMU to stop or to load."""
        if self.phase == Phase.EXCHANGE and self._peer is None:
            return now - self.stopped_at
        return now - self.loading_since if self.phase == Phase.LOAD else 0.0

    @property
    def device(self) -> bytes:
        """The device state that was sent."""
        return self._device or b""

    @property
    def peer_stopped(self) -> bool:
        return self._peer is not None

    def abandon(self) -> None:
        """Given up: our dirty pages count as dirty again. If the secondary staged them nonetheless, that does no harm."""
        if self._own is not None:
            self._memory.put_back(self._own)

    def figures(self) -> Figures:
        return Figures(
            self.number,
            round(1000 * (self.resumed_at - self.stopped_at), 3),
            self._dirty,
            len(self._divergent),
            sum(self._sent[kind] for kind in ("pages", "blocks", "device")),
            bool(self.audit),
            len(self._untracked),
            self._mismatching,
            *self._disk_figures(),
            self._sent,
            self._scrub,
            tuple(self._untracked[:NAMED_MAX]),
        )

    # ---- an audit of disks: our VM stands still, and the secondary's own writes have been dropped by its load ----
    def disks_hashed(self, hashes: bytes) -> None:
        self._machine.happened(Event.DISKS_HASHED)
        self._disk_hashes = hashes

    def on_disk_hashes(self, m: wire.DiskHashes) -> None:
        self._machine.happened(Event.DISK_HASHES)
        if self.audit != DISKS or self._peer_disk_hashes is not None:
            raise WireError(f"syncvm {self.number}: hashes of disks twice, or not asked for")
        self._peer_disk_hashes = m.payload

    @property
    def disks_compared(self) -> bool:
        return self.audit != DISKS or None not in (self._disk_hashes, self._peer_disk_hashes)

    def _disk_figures(self) -> tuple[int, int]:
        """(image blocks compared, image blocks that differ)"""
        if self.audit != DISKS:
            return 0, 0
        ours, theirs = array("Q", self._disk_hashes or b""), array("Q", self._peer_disk_hashes or b"")
        return max(len(ours), len(theirs)), sum(a != b for a, b in zip(ours, theirs)) + abs(len(ours) - len(theirs))
