# SPDX-License-Identifier: GPL-3.0-or-later
"""Effects: what the pure core asks of the world. And the one thing it calls directly: guest memory.

The shell carries effects out in order. ``-> event(tag)`` names the event that answers an effect; it carries the effect's tag.
An effect that fails is answered with ``failed(tag, error)``, or with ``copy_lost(tag, error)`` if an image lost a write. An
answer to a tag that nobody waits for is ignored. An answer out of place, such as a second one, is an InvariantViolation.

"fetch_dirty() is instant" in an event: while the core handles that event, fetch_dirty() need not read all of memory.
"""

from __future__ import annotations

from array import array
from collections.abc import Hashable
from typing import NamedTuple, Protocol, Union

from ..protocol import wire
from ..protocol.packing import Compressor
from ..protocol.pages import PageRun

Tag = Hashable
Buffer = Union[bytes, bytearray, memoryview]  # noqa: UP007 (ansible-test takes the bars for an operator)


class SendData(NamedTuple):
    """A message on the data channel to the other replica."""

    message: wire.Message


class Inject(NamedTuple):
    """Frames for QEMU, in its own framing."""

    payload: bytes


class Emit(NamedTuple):
    """Frames for the TAP: the only way out of the host -> left(number, rest); ``rest``: the last frames, if their time was over."""

    number: int
    chunks: list[bytes]


class StartQemu(NamedTuple):
    """-> qemu_ready(facts). ``incoming``: as an empty shell for an initial sync; else boot the guest."""

    incoming: bool


class KillQemu(NamedTuple):
    reason: str


class Drain(NamedTuple):
    """Quiesce: wait until QEMU has read its input and is idle, for at most ``limit_s`` (None: syncvm_drain_ms_max) -> drained(tag)."""

    tag: Tag
    limit_s: float | None = None


class StopVm(NamedTuple):
    """QMP stop, then take all output that the VM has sent -> vm_stopped(tag). ``dirty``: fetch_dirty() is instant in it."""

    tag: Tag
    dirty: bool = False


class ContVm(NamedTuple):
    pass


class PressPower(NamedTuple):
    """Press the power button of the leader's VM: most guests shut down then, which ends with -> guest_off(all_know)."""


class ResetGuest(NamedTuple):
    """Press the reset button of the leader's VM."""


class SaveDevice(NamedTuple):
    """-> device_saved(tag, state)."""

    tag: Tag


class CaptureStream(NamedTuple):
    """Migrate the stopped VM's devices to us, without RAM -> stream_captured(tag, stream). fetch_dirty() is instant in it."""

    tag: Tag


class FeedStream(NamedTuple):
    """Load a captured stream and enter the COLO loop -> colo_ready(tag)."""

    tag: Tag
    stream: bytes


class ColoStop(NamedTuple):
    """Stop a secondary's VM -> vm_stopped(tag). fetch_dirty() is instant in it."""

    tag: Tag


class ResetVm(NamedTuple):
    """Reset the devices of a secondary's stopped VM; ColoLoad follows -> vm_reset(tag)."""

    tag: Tag


class ColoLoad(NamedTuple):
    """Load a device state; then the VM runs, or stays stopped if not ``runs`` -> colo_loaded(tag).

    ``reset``: reset its devices first; false if ResetVm has done so.
    """

    tag: Tag
    state: bytes
    runs: bool = True
    reset: bool = True


class Promote(NamedTuple):
    """Leave the COLO loop, run as an ordinary VM -> promoted(). With disks, disks_merged() or disks_unmerged(error) follows.

    May be asked for again after an error in any of its steps.
    """

    tag: Tag


class CopyDisks(NamedTuple):
    """Copy the disks to the secondary while the VM runs -> copy_progress(tag, done, total) ..., disks_copied(tag).

    ``held``: names of the copies that it already has. If we know how one of them differs from ours, only that is sent.
    ``name``: of the copy that it gets. Copying goes on until AttachDisks.
    """

    tag: Tag
    held: tuple[str, ...]
    name: str


class AttachDisks(NamedTuple):
    """The VM stands still: copy the rest. From here on each write goes to both images -> disks_attached(tag)."""

    tag: Tag


class DetachDisks(NamedTuple):
    """Undo CopyDisks and AttachDisks, if there is anything to undo. Works even if the secondary is dead."""


class HoldWrites(NamedTuple):
    """Keep the VM's writes from the secondary's images; they wait, and so does whoever waits for them. No write is under way."""


class PassWrites(NamedTuple):
    """Let them go on, those that wait first. Without a HoldWrites there is nothing to do, nor after a DetachDisks."""


class MergeDisks(NamedTuple):
    """The merge after a failover stopped at an error: continue it -> disks_merged() or disks_unmerged(error)."""


class HashDisks(NamedTuple):
    """CityHash64 of each block of this host's images -> disks_hashed(tag, hashes as bytes)."""

    tag: Tag


class TapEarly(NamedTuple):
    """Elected, but the VM is not ready: bring the TAP up and tell the network. Incoming frames wait in the TAP."""


class TapUp(NamedTuple):
    """Bring the TAP up; ``announce``: tell the network that the VM is here now -> tap_ready(forwards). Until its bridge forwards
    frames nobody is reached; that comes with -> tap_reached(waited)."""

    announce: bool


class TapDown(NamedTuple):
    pass


class Fence(NamedTuple):
    """Run the external fence agent against ``member``, for a bounded time -> fenced(tag, error or None)."""

    tag: Tag
    member: str


class Hash(NamedTuple):
    """CityHash64 of pages -> hashed(tag, hashes)."""

    tag: Tag
    index: array[int]  # type: ignore[assignment]  # tuple has a method of that name; nobody calls it


class HashBlocks(NamedTuple):
    """16-bit hashes of the blocks of pages -> blocks_hashed(tag, hashes)."""

    tag: Tag
    index: array[int]  # type: ignore[assignment]  # tuple has a method of that name; nobody calls it


class Pack(NamedTuple):
    """Compress each payload (:class:`Compressor`), in a thread: it takes long -> packed(tag, payloads)."""

    tag: Tag
    payloads: list[bytes]


class OpenTracker(NamedTuple):
    """Start dirty tracking of guest RAM, all pages clean -> tracker_open(tag)."""

    tag: Tag


class FetchDirty(NamedTuple):
    """Prepare to fetch the dirty pages of a running VM -> dirty_fetched(tag). fetch_dirty() is instant in it."""

    tag: Tag


class CloseData(NamedTuple):
    """Close the data channel: the messages in it belong to work that was given up."""


class Yield(NamedTuple):
    """Let other work run, then call data_writable() again."""


class Report(NamedTuple):
    """One sentence for the operator's log."""

    text: str


class Happened(NamedTuple):
    """For the event log; the shell adds the time of day. ``kind`` and ``facts``: see core/event_log.py."""

    kind: str
    why: str
    facts: dict[str, object]


Effect = Union[  # noqa: UP007 (ansible-test takes the bars for an operator)
    SendData,
    Inject,
    Emit,
    StartQemu,
    KillQemu,
    Drain,
    StopVm,
    ContVm,
    PressPower,
    ResetGuest,
    SaveDevice,
    CaptureStream,
    FeedStream,
    ColoStop,
    ResetVm,
    ColoLoad,
    Promote,
    CopyDisks,
    AttachDisks,
    DetachDisks,
    HoldWrites,
    PassWrites,
    MergeDisks,
    HashDisks,
    TapEarly,
    TapUp,
    TapDown,
    Fence,
    Hash,
    HashBlocks,
    Pack,
    OpenTracker,
    FetchDirty,
    CloseData,
    Yield,
    Report,
    Happened,
]


class Memory(Compressor, Protocol):
    """Guest RAM of this host, 4096-byte pages; tracked since OpenTracker."""

    pages: int

    def fetch_dirty(self, vm_runs: bool = False) -> bytearray:
        """Bitmap of the pages written since the last call; clears it. ``vm_runs`` must be true if the VM is running, as some
        trackers cannot clear while somebody writes. A write during the call is returned by this call or by the next one."""

    def put_back(self, bitmap: Buffer) -> None:
        """The syncvm was abandoned: the next fetch_dirty() returns these pages too."""

    def union(self, a: bytearray, b: Buffer) -> array[int]:
        """Page numbers set in either bitmap, ascending; ``a`` becomes the union."""

    def pages_of(self, bitmap: Buffer) -> array[int]:
        """Page numbers set in the bitmap, ascending."""

    def bits_of(self, bitmap: bytes, bits: int) -> array[int]:
        """Positions of the set bits in a bitmap of ``bits`` bits, ascending."""

    def bitmap_of(self, index: array[int], bits: int) -> bytearray:
        """A bitmap of ``bits`` bits, in whole 64-bit words, with the bits of ``index`` set."""

    def nonzero(self, index: array[int]) -> array[int]:
        """The pages of ``index`` that are not all zeros."""

    def compare(self, a: array[int], b: array[int], index: array[int] | None = None) -> array[int]:
        """The pages of ``index`` whose hashes in ``a`` and ``b`` differ; without ``index``, the positions that differ."""

    def block_masks(self, index: array[int], theirs: array[int]) -> array[int]:
        """One mask per page: bit i is set if the hash of block i differs from that in ``theirs``."""

    def count_blocks(self, masks: array[int]) -> int:
        """How many blocks are set in these masks."""

    def gather_blocks(self, index: array[int], masks: array[int]) -> bytes | bytearray:
        """The blocks set in the masks, one after the other."""

    def patched(self, index: array[int], masks: array[int], blocks: Buffer) -> tuple[bytes | bytearray, array[int]]:
        """(Copies of the pages with ``blocks`` in place, the hashes of these copies.) The pages themselves stay unchanged."""

    def gather(self, index: array[int]) -> bytes | bytearray:
        """A copy of the pages, one after the other."""

    def lend(self, index: array[int]) -> bytes | bytearray | PageRun:
        """The pages, for sending. If the network card reads guest memory itself: as they are when it reads them. Else a copy."""

    def hashes_of(self, pages: Buffer) -> array[int]:
        """CityHash64 of each page of ``pages``."""

    def hash(self, index: array[int]) -> array[int]:
        """CityHash64 of each of these pages of guest RAM."""

    def apply(self, index: array[int], data: Buffer) -> None:
        """Overwrite the pages with ``data``."""

    def digest(self, data: Buffer) -> int:
        """CityHash64 of ``data``."""
