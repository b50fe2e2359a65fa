# SPDX-License-Identifier: GPL-3.0-or-later
"""What the pure core asks of the world, and the one thing it calls directly: guest memory.

The shell carries actions out in order and answers those that have a ``tag`` with the event named beside
them, carrying the same tag, or with ``failed(tag, error)``. An answer to a tag nobody waits for is ignored;
one out of place, as a second one, is an InvariantViolation.
"""

from __future__ import annotations

from array import array
from collections.abc import Hashable
from typing import NamedTuple, Protocol

from ..protocol import wire
from ..protocol.packing import Compressor
from ..protocol.pages import PageRun

Tag = Hashable
Buffer = bytes | bytearray | memoryview


class SendData(NamedTuple):
    """On the data channel to the other replica."""

    message: wire.Message


class Inject(NamedTuple):
    """Frames into QEMU, in its own framing."""

    payload: bytes


class Emit(NamedTuple):
    """Frames out of the TAP: the only way out of the host."""

    chunks: list[bytes]


class StartQemu(NamedTuple):
    """-> qemu_ready(). ``incoming``: as an empty shell for a fill, else boot the guest."""

    incoming: bool


class KillQemu(NamedTuple):
    reason: str


class Drain(NamedTuple):
    """Wait until QEMU has read its input and is idle, so long at most (None: syncvm_drain_ms_max) -> drained(tag)."""

    tag: Tag
    limit_s: float | None = None


class StopVm(NamedTuple):
    """QMP stop; then take all output it sent -> vm_stopped(tag). ``dirty``: in which fetch_dirty() takes no time."""

    tag: Tag
    dirty: bool = False


class ContVm(NamedTuple):
    pass


class SaveDevice(NamedTuple):
    """-> device_saved(tag, state)."""

    tag: Tag


class CaptureStream(NamedTuple):
    """Migrate the stopped VM's devices to us, no RAM -> stream_captured(tag, stream); fetch_dirty() takes no time in it."""

    tag: Tag


class FeedStream(NamedTuple):
    """Load a captured stream and enter the COLO loop -> colo_ready(tag)."""

    tag: Tag
    stream: bytes


class ColoStop(NamedTuple):
    """-> vm_stopped(tag), in which fetch_dirty() takes no time."""

    tag: Tag


class ResetVm(NamedTuple):
    """Reset the devices of a secondary's VM that stands still; a ColoLoad follows -> vm_reset(tag)."""

    tag: Tag


class ColoLoad(NamedTuple):
    """Load a device state; the VM runs on, or stands still if not ``runs`` -> colo_loaded(tag).

    ``reset``: its devices first, unless ResetVm has done so.
    """

    tag: Tag
    state: bytes
    runs: bool = True
    reset: bool = True


class Promote(NamedTuple):
    """Leave the COLO loop, run as an ordinary VM -> promoted(); with disks, disks_merged() or disks_unmerged(error) follow.

    It may be asked for again after an error, wherever that was.
    """

    tag: Tag


class CopyDisks(NamedTuple):
    """Copy the disks to the secondary while the VM runs -> copy_progress(tag, done, total) ..., disks_copied(tag).

    ``held``: the copies that it has already, by their names; if we know what differs from one, only that is sent.
    ``name``: of the copy that it gets. The copy goes on until AttachDisks.
    """

    tag: Tag
    held: tuple[str, ...]
    name: str


class AttachDisks(NamedTuple):
    """The VM stands still: copy the rest; from here on each write goes to both -> disks_attached(tag)."""

    tag: Tag


class DetachDisks(NamedTuple):
    """Give up what CopyDisks and AttachDisks did; nothing if there is nothing. Works beside a dead secondary."""


class MergeDisks(NamedTuple):
    """The merge after a failover has stopped at an error: let it go on -> disks_merged() or disks_unmerged(error)."""


class HashDisks(NamedTuple):
    """CityHash64 of each block of this host's images -> disks_hashed(tag, hashes as bytes)."""

    tag: Tag


class TapEarly(NamedTuple):
    """Elected, but the VM is not ready: bring the TAP up and tell the network. What comes in waits there."""


class TapUp(NamedTuple):
    """Bring the TAP up; ``announce``: tell the network that the VM is here now."""

    announce: bool


class TapDown(NamedTuple):
    pass


class Fence(NamedTuple):
    """Run the external fence agent against ``member``, bounded -> fenced(tag, error or None)."""

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
    """Compress each of these (:class:`Compressor`) -> packed(tag, payloads). It takes long enough to be done beside."""

    tag: Tag
    payloads: list[bytes]


class OpenTracker(NamedTuple):
    """Map guest RAM and start dirty tracking, all clean -> tracker_open(tag)."""

    tag: Tag


class FetchDirty(NamedTuple):
    """Get ready to tell the dirty pages of a VM that runs -> dirty_fetched(tag), in which fetch_dirty() takes no time."""

    tag: Tag


class CloseData(NamedTuple):
    """Close the data channel: what is in it belongs to something given up."""


class Yield(NamedTuple):
    """Let other work run, then call data_writable() again."""


class Report(NamedTuple):
    """One sentence for the operator's log."""

    text: str


class Happened(NamedTuple):
    """For the history; the shell adds the time of day. ``kind`` and ``facts``: see core/event_log.py."""

    kind: str
    why: str
    facts: dict[str, object]


Effect = (
    SendData
    | Inject
    | Emit
    | StartQemu
    | KillQemu
    | Drain
    | StopVm
    | ContVm
    | SaveDevice
    | CaptureStream
    | FeedStream
    | ColoStop
    | ResetVm
    | ColoLoad
    | Promote
    | CopyDisks
    | AttachDisks
    | DetachDisks
    | MergeDisks
    | HashDisks
    | TapEarly
    | TapUp
    | TapDown
    | Fence
    | Hash
    | HashBlocks
    | Pack
    | OpenTracker
    | FetchDirty
    | CloseData
    | Yield
    | Report
    | Happened
)


class Memory(Compressor, Protocol):
    """Guest RAM of this host, 4096-byte pages; tracked since OpenTracker."""

    pages: int

    def fetch_dirty(self, vm_runs: bool = False) -> bytearray:
        """Bitmap of the pages written since the last call; clears. What a VM that runs writes meanwhile is told
        now or by the next call. ``vm_runs`` must be true then: some trackers cannot clear while somebody writes."""

    def put_back(self, bitmap: Buffer) -> None:
        """A syncvm was abandoned: the next fetch_dirty() returns these pages too."""

    def union(self, a: bytearray, b: Buffer) -> array[int]:
        """Page numbers set in either bitmap, ascending; ``a`` becomes the union."""

    def pages_of(self, bitmap: Buffer) -> array[int]:
        """Page numbers set in the bitmap, ascending."""

    def bits_of(self, bitmap: bytes, bits: int) -> array[int]:
        """The numbers that are set in a bitmap of ``bits`` bits, ascending."""

    def bitmap_of(self, index: array[int], bits: int) -> bytearray:
        """The bitmap of ``bits`` bits, in whole 64-bit words, in which these are set."""

    def nonzero(self, index: array[int]) -> array[int]:
        """Those of ``index`` that are not all zero."""

    def compare(self, a: array[int], b: array[int], index: array[int] | None = None) -> array[int]:
        """Those of ``index`` whose hashes differ; without one: where in ``a`` and ``b`` they do."""

    def block_masks(self, index: array[int], theirs: array[int]) -> array[int]:
        """Per page a mask of the blocks whose hashes are not ``theirs``; block i of a page is bit i."""

    def count_blocks(self, masks: array[int]) -> int:
        """How many blocks these masks name."""

    def gather_blocks(self, index: array[int], masks: array[int]) -> bytes:
        """The blocks that the masks name, one after the other."""

    def patched(self, index: array[int], masks: array[int], blocks: Buffer) -> tuple[bytes, array[int]]:
        """(Copies of the pages with these blocks in them, the hashes of these copies.) The pages stay as they are."""

    def gather(self, index: array[int]) -> bytes:
        """The pages, one after the other."""

    def lend(self, index: array[int]) -> bytes | PageRun:
        """The pages, to be sent: as they will be then, if the network card can read them itself, else a copy of now."""

    def hashes_of(self, pages: Buffer) -> array[int]:
        """CityHash64 of each page of ``pages``."""

    def hash(self, index: array[int]) -> array[int]:
        """CityHash64 of each of these pages of the guest's."""

    def apply(self, index: array[int], data: Buffer) -> None:
        """Overwrite the pages."""

    def digest(self, data: bytes) -> int:
        """CityHash64 of ``data``."""
