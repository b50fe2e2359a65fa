# SPDX-License-Identifier: GPL-3.0-or-later
"""The secondary's side of one syncvm (paper §4.4; docs/ARCHITECTURE.md, "syncvm"; invariant 4). Sans-I/O.

Its phases are a table in syncvm/phases.py, drawn in docs/syncvm.md. Each handler returns the next effects; a message out of
place raises WireError. Pages and device state are staged beside guest memory (syncvm/staging.py). Once everything is verified,
the pages are applied, then the leader is told "staged", then the device state is loaded and the leader is told "applied".
"""

from __future__ import annotations

from array import array
from dataclasses import replace

from ..errors import WireError
from ..ports import effects
from ..protocol import pages as pg
from ..protocol import wire
from ..protocol.packing import pack_bitmap, unpack_bitmap
from .phase_machine import PhaseMachine
from .phases import DISKS, SECONDARY
from .phases import SecondaryEvent as Event
from .phases import SecondaryPhase as Phase
from .staging import Staging


class SecondarySyncvm:
    def __init__(self, view: int, number: int, memory: effects.Memory, base: bytes = b"", whole: bool = False, life: float = 0.0) -> None:
        """``base``: the device state that was staged before this one; empty: none in this view.

        ``life``: distinguishes this copy of the VM from earlier ones. The leader chooses ``number`` and may choose one twice:
        an answer that an earlier copy waited for must not reach this one.
        """
        self.view, self.number, self._memory, self._whole = view, number, memory, whole
        # The leader's bitmap may come before we reach the log entry.
        self._machine = PhaseMachine(SECONDARY, Phase.ORDERED, f"syncvm {number}")
        self.started = 0.0
        self.limit_s: float | None = None
        self.tag = ("syncvm", view, number, life)
        self._own: bytearray | None = None
        self._peer: wire.Bitmap | None = None
        self._index = array("I")
        self._base = base
        self._staging = Staging(self._index, memory, base)

    @property
    def phase(self) -> Phase:
        return self._machine.phase

    def start(self, now: float, limit_s: float | None = None) -> list[effects.Effect]:
        """``limit_s``: how long our VM may quiesce, see syncvm/quiesce.py."""
        self._machine.happened(Event.REACHED)
        self.started, self.limit_s = now, limit_s
        return self.drained() if self._whole else [effects.Drain(self.tag, limit_s)]

    def drained(self) -> list[effects.Effect]:
        self._machine.happened(Event.DRAINED)
        return [effects.ColoStop(self.tag)]

    def vm_stopped(self) -> list[effects.Effect]:
        self._machine.happened(Event.VM_STOPPED)
        self._own = self._memory.fetch_dirty()
        packed = pack_bitmap(self._memory, self._own)
        return [effects.SendData(wire.Bitmap(self.view, self.number, False, packed)), *self._exchanged()]

    def on_bitmap(self, m: wire.Bitmap) -> list[effects.Effect]:
        if self._peer is not None:
            raise WireError(f"second dirty bitmap for syncvm {self.number}")
        self._machine.require(Event.BITMAP)
        self._peer = replace(m, payload=unpack_bitmap(self._memory, m.payload, self._memory.pages))
        return self._exchanged()

    def _exchanged(self) -> list[effects.Effect]:
        if self._own is None or self._peer is None:
            return []
        self._index = self._memory.union(bytearray(self._own), self._peer.payload)
        if self._peer.audit:
            self._index = pg.all_pages(self._memory.pages)
        self._staging = Staging(self._index, self._memory, self._base)
        if self._whole and not self._peer.audit:
            self._machine.happened(Event.BOTH_BITMAPS_CHECKPOINT)
            return []
        self._machine.happened(Event.BOTH_BITMAPS)
        return [effects.Hash(self.tag, self._index)]

    def hashed(self, hashes: array[int]) -> list[effects.Effect]:
        after = self.phase == Phase.WAIT_AUDIT
        self._machine.happened(Event.HASHED)
        out: list[effects.Effect] = [effects.SendData(wire.Hashes(self.view, self.number, after, hashes.tobytes()))]
        return out + self._load(reset=False) if after else out

    def on_staging(self, m: wire.Divergent | wire.StageBlocks | wire.StagePages) -> list[effects.Effect]:
        if isinstance(m, wire.Divergent):
            self._machine.require(Event.DIVERGENT)
            index = self._staging.on_divergent(m)
            self._machine.happened(Event.DIVERGENT)
            return [effects.HashBlocks(self.tag, index)]
        if isinstance(m, wire.StageBlocks):
            self._machine.happened(Event.STAGE_BLOCKS)
            self._staging.on_blocks(m)
        else:
            self._machine.happened(Event.STAGE_PAGES)
            self._staging.on_pages(m)
        return []

    def blocks_hashed(self, hashes: array[int]) -> list[effects.Effect]:
        self._machine.happened(Event.BLOCKS_HASHED)
        return [effects.SendData(wire.BlockHashes(self.view, self.number, hashes.tobytes()))]

    def on_stage_end(self, m: wire.StageEnd) -> list[effects.Effect]:
        """If everything is verified: apply the pages, tell the leader, load the device state. Else ask for the wrong parts."""
        self._machine.happened(Event.STAGE_END)
        if not self._staging.on_end(m):
            lacks_base = not self._staging.makes(m)
            return [effects.SendData(wire.Resend(self.view, self.number, lacks_base, self._staging.wrong.tobytes()))]
        self._staging.apply()
        staged = effects.SendData(wire.Staged(self.view, self.number))
        if self._peer is not None and self._peer.audit:
            self._machine.happened(Event.VERIFIED_AUDIT)
            return [staged, effects.ResetVm(self.tag)]
        self._machine.happened(Event.VERIFIED)
        return [staged, *self._load()]

    def vm_reset(self) -> list[effects.Effect]:
        """In an audit. It checks the memory that the VM will run with, so also what the reset before the load writes."""
        self._machine.happened(Event.VM_RESET)
        return [effects.Hash(self.tag, self._index)]

    @property
    def device(self) -> bytes:
        """The staged device state."""
        return self._staging.device

    def _load(self, reset: bool = True) -> list[effects.Effect]:
        return [effects.ColoLoad(self.tag, self.device, runs=not self._whole, reset=reset)]

    def abandon(self) -> None:
        """Given up before everything was staged. The VM stays stopped until the next syncvm."""
        if self._own is not None:
            self._memory.put_back(self._own)

    @property
    def holds_new_state(self) -> bool:
        """Everything was staged: the load, and an audit, must go on to the end."""
        return self.must_load or self.phase == Phase.HASH_DISKS

    @property
    def must_load(self) -> bool:
        """Pages are of the new state, devices not yet: our VM must neither run nor be promoted."""
        return self.phase in (Phase.WAIT_AUDIT, Phase.LOAD)

    def loaded(self) -> list[effects.Effect]:
        if self._peer is not None and self._peer.audit == DISKS:
            self._machine.happened(Event.LOADED_AUDIT_DISKS)  # if elected meanwhile, this host does not wait for the hashes
            return [effects.HashDisks(self.tag)]
        self._machine.happened(Event.LOADED)
        return [effects.SendData(wire.Applied(self.view, self.number))]

    def disks_hashed(self, hashes: bytes) -> list[effects.Effect]:
        self._machine.happened(Event.DISKS_HASHED)
        return [effects.SendData(wire.DiskHashes(self.view, self.number, hashes)), effects.SendData(wire.Applied(self.view, self.number))]
