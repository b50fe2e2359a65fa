# SPDX-License-Identifier: GPL-3.0-or-later
"""Re-protection: a new secondary is filled while the leader serves its clients. Sans-I/O.

The leader sends rounds of pages until few are dirty; the first round leaves out zero pages, as fresh RAM is zero. Then it
stops the VM, captures the device stream, sends the last dirty pages, compares all of memory (syncvm/initial_sync_check.py),
sends the stream and runs on. From that stop on, output also depends on the new secondary, which may be recorded in sync. So
the leader holds all output until the first syncvm.

Pages are always copied before they are sent, never lent to the network card: it may read them after the VM runs on.

Disks, if there are any, are copied first. Once they are attached, writes go to both images. So the leader's VM stands still
until the secondary has loaded: only then do the secondary's overlays keep its own VM's state apart from the leader's writes.
"""

from __future__ import annotations

from array import array
from typing import Any

from ..errors import WireError
from ..ports import effects
from ..protocol import pages as pg
from ..protocol import wire
from .initial_sync_check import LeaderCheck, SecondaryCheck
from .phase_machine import PhaseMachine
from .phases import LEADER_SYNC, SECONDARY_SYNC, SecondarySyncEvent, SecondarySyncPhase
from .phases import LeaderSyncEvent as Event
from .phases import LeaderSyncPhase as Phase

STANDS_STILL = (Phase.STOP, Phase.ATTACH, Phase.CAPTURE, Phase.FINAL, Phase.CHECK, Phase.CHECKED)
ROUNDS_MAX = 8
FEW_PAGES = 512
CHUNKS_PER_TURN = 8
MIB = 1 << 20
RATE_S_MIN = 1.0  # a rate over less time says nothing
CHECKS_MAX = 3  # of all of memory, in one initial sync


def copied(done: int, total: int, seconds: float) -> str:
    """How far a copy or a comparison is: bytes, and the seconds since its beginning."""
    if total < MIB:
        return ""
    out = f" ({done // MIB} of {total // MIB} MiB)"
    if done < MIB or seconds < RATE_S_MIN:
        return out
    return f"{out}, {done / MIB / seconds:.0f} MiB/s, {(total - done) * seconds / done:.0f} s left"


class LeaderInitialSync:
    def __init__(self, view: int, join: int, memory: effects.Memory, disks: bool = False, checks: bool = True) -> None:
        """``checks``: the joiner can hash all of its memory at the end (an older version cannot)."""
        self.view, self.join, self._memory, self.disks = view, join, memory, disks
        self.tag = ("fill", view, join)
        self._machine = PhaseMachine(LEADER_SYNC, Phase.OPEN, f"initial sync {join}")
        self.held: tuple[str, ...] = ()  # names of the disk copies that the secondary has
        self.copy = f"{view}-{join}"  # name of the disk copy that it gets
        self._copied = (0, 1)  # bytes of the disks: done, total
        self.waits_since = 0.0  # since when clients wait for the last step; each part of its comparison begins anew
        self.progress_at = self._began = 0.0
        self._pending, self._next = array("I"), 0
        self._fetching = False  # FetchDirty is under way
        self._round = self.pages_sent = 0
        self._index = 0
        self._check = LeaderCheck(self.tag, memory)
        self._checks_left = CHECKS_MAX if checks else 0
        self.pages_mismatching = 0  # pages that differed at the end although no write was reported: each is a fault

    @property
    def phase(self) -> Phase:
        return self._machine.phase

    def start(self, now: float) -> list[effects.Effect]:
        self.progress_at = self._began = now
        return [effects.OpenTracker(self.tag)]

    def tracker_open(self) -> list[effects.Effect]:
        if not self.disks:
            return self._live(Event.TRACKER_OPEN)
        self._machine.happened(Event.TRACKER_OPEN_DISKS)
        return [effects.CopyDisks(self.tag, self.held, self.copy)]

    def copy_progress(self, done: int, total: int, now: float) -> None:
        self._copied, self.progress_at = (done, total), now

    def disks_copied(self) -> list[effects.Effect]:
        return self._live(Event.DISKS_COPIED)

    def _live(self, event: Event) -> list[effects.Effect]:
        self._machine.happened(event)
        return self._fetch()

    def _fetch(self) -> list[effects.Effect]:
        self._fetching = True
        return [effects.FetchDirty(self.tag)]

    def dirty_fetched(self) -> list[effects.Effect]:
        """A round begins: the first one with all pages, the others with the pages written meanwhile."""
        if not self._fetching:
            return []  # it came twice
        self._machine.happened(Event.DIRTY_FETCHED)
        self._fetching = False
        written = self._memory.pages_of(self._memory.fetch_dirty(vm_runs=True))
        self._pending, self._next = written if self._round else pg.all_pages(self._memory.pages), 0
        if not self._round or (len(written) > FEW_PAGES and self._round < ROUNDS_MAX):
            return [effects.Yield()]
        self._machine.happened(Event.FEW_DIRTY)  # the pages pending now are sent with the last round
        return [effects.Drain(self.tag)]

    def writable(self) -> list[effects.Effect]:
        """Send some pages; the shell calls again when the channel has room."""
        if self.phase not in (Phase.LIVE, Phase.FINAL) or self._fetching:
            return []
        out: list[effects.Effect] = []
        for _turn in range(CHUNKS_PER_TURN):
            if self._next >= len(self._pending):
                return out + (self._round_done() if self.phase == Phase.LIVE else self._start_check())
            index = self._pending[self._next : self._next + pg.CHUNK_PAGES]
            self._next += len(index)
            if self._round == 0:
                index = self._memory.nonzero(index)
            if len(index):
                self.pages_sent += len(index)
                payload = pg.pack(index, self._memory.gather(index))
                out.append(effects.SendData(wire.FillPages(self.view, self.join, len(index), payload)))
        return out + [effects.Yield()]

    @property
    def final_done(self) -> bool:
        """All pages are on their way, and have been compared if the secondary can hash them."""
        sent = self.phase == Phase.FINAL and self._next >= len(self._pending)
        return self.phase == Phase.CHECKED or (sent and not self._checks_left)

    @property
    def progress(self) -> str:
        """For the operator."""
        how_far = ""
        if self.phase == Phase.COPY:
            how_far = copied(*self._copied, self.progress_at - self._began)
        elif self.pages_sent:
            how_far = f" ({self.pages_sent * pg.PAGE_BYTES // MIB} MiB sent)"
        return f"{self.phase} {self.percent} %{how_far}"

    def describe(self) -> dict[str, Any]:
        """For programs. ``percent`` is that of the phase, or of the present round of pages."""
        done, total = self._copied if self.disks else (0, 0)
        return {
            "phase": str(self.phase),
            "percent": self.percent,
            "pages_sent": self.pages_sent,
            "disk_bytes": done,
            "disk_bytes_total": total,
        }

    @property
    def percent(self) -> int:
        """Progress of the present round."""
        if self.phase == Phase.COPY:
            return 100 * self._copied[0] // max(1, self._copied[1])
        if self.phase == Phase.LIVE and len(self._pending):
            return 100 * self._next // len(self._pending)
        return 0 if self._fetching else 100

    def _start_check(self) -> list[effects.Effect]:
        if not self._checks_left:
            return []
        self._machine.happened(Event.PAGES_SENT)
        self._check = LeaderCheck(self.tag, self._memory)
        self._checks_left -= 1
        return [effects.SendData(wire.FillCheck(self.view, self.join, self.pages_sent)), *self._check.start()]

    def hashed(self, hashes: array[int]) -> list[effects.Effect]:
        self._machine.happened(Event.HASHED)
        return self._check.hashed(hashes) + self._compared()

    def on_hashes(self, m: wire.FillHashes) -> list[effects.Effect]:
        self._machine.happened(Event.FILL_HASHES)
        self._check.on_hashes(m)
        return self._compared()

    def _compared(self) -> list[effects.Effect]:
        """Once both sides have hashed everything: pages that differ are sent again, and compared again."""
        if not self._check.complete:
            return []
        wrong = self._check.differing()
        if not wrong:
            self._machine.happened(Event.EQUAL)
            return []
        self.pages_mismatching += len(wrong)
        self._machine.happened(Event.DIFFERENT)
        self._pending, self._next = wrong, 0
        return self.writable() if self._checks_left else []

    @property
    def never_equal(self) -> bool:
        """The last comparison allowed (CHECKS_MAX) found pages that differ."""
        return self.phase == Phase.FINAL and self.pages_mismatching > 0 and not self._checks_left

    def _round_done(self) -> list[effects.Effect]:
        self._round += 1
        return self._fetch()

    def drained(self, now: float) -> list[effects.Effect]:
        self._machine.happened(Event.DRAINED)
        self.waits_since = now
        return [effects.StopVm(self.tag)]

    def vm_stopped(self, index: int) -> list[effects.Effect]:
        """``index``: the VM has consumed the log up to here."""
        self._index = index
        if not self.disks:
            return self._capture(Event.VM_STOPPED)
        self._machine.happened(Event.VM_STOPPED_DISKS)
        return [effects.AttachDisks(self.tag)]

    def disks_attached(self) -> list[effects.Effect]:
        return self._capture(Event.DISKS_ATTACHED)

    def _capture(self, event: Event) -> list[effects.Effect]:
        self._machine.happened(event)
        return [effects.CaptureStream(self.tag)]

    def stream_captured(self) -> list[effects.Effect]:
        self._machine.happened(Event.STREAM_CAPTURED)
        last = self._memory.fetch_dirty()
        self._pending = array("I", sorted(set(self._pending) | set(self._memory.pages_of(last))))
        self._next = 0
        return self.writable()

    def end(self, stream: bytes) -> list[effects.Effect]:
        """All pages are on their way: the stream follows, and the leader's VM may run."""
        self._machine.happened(Event.ENDED)
        return [effects.SendData(wire.FillState(self.view, self.join, self._index, self.pages_sent, stream))]

    def on_done(self) -> None:
        self._machine.happened(Event.FILL_DONE)

    @property
    def holds_output(self) -> bool:
        """From the stop on, the new secondary may become the only holder of the VM's state."""
        return self.phase in STANDS_STILL or self.phase in (Phase.LOADING, Phase.RECORDING)

    @property
    def stops_input(self) -> bool:
        """The VM stands still, or is about to."""
        return self.phase == Phase.DRAIN or self.phase in STANDS_STILL or (self.disks and self.phase == Phase.LOADING)


class SecondaryInitialSync:
    """The new secondary. Its QEMU is an empty shell until the stream is fed, so pages go straight into its memory."""

    def __init__(self, view: int, join: int, memory: effects.Memory, life: float = 0.0) -> None:
        """``life``: distinguishes this empty QEMU from earlier ones; see SecondarySyncvm."""
        self.view, self.join, self._memory = view, join, memory
        self._machine = PhaseMachine(SECONDARY_SYNC, SecondarySyncPhase.RECEIVE, f"initial sync {join}")
        self.tag = ("fill", view, join, life)
        self.index = 0
        self._pages = 0
        self.stream = b""
        self._check = SecondaryCheck(view, join, self.tag, memory)

    def on_pages(self, m: wire.FillPages) -> list[effects.Effect]:
        self._machine.happened(SecondarySyncEvent.FILL_PAGES)
        index, data = pg.unpack(m.count, m.payload, self._memory.pages)
        self._memory.apply(index, data)
        self._pages += m.count
        return []

    def on_check(self, m: wire.FillCheck) -> list[effects.Effect]:
        self._all_here(m, SecondarySyncEvent.FILL_CHECK)
        self._check = SecondaryCheck(self.view, self.join, self.tag, self._memory)
        return self._check.start()

    def hashed(self, hashes: array[int]) -> list[effects.Effect]:
        self._machine.happened(SecondarySyncEvent.HASHED)
        out = self._check.hashed(hashes)
        if self._check.complete:
            self._machine.happened(SecondarySyncEvent.ALL_HASHED)
        return out

    def _all_here(self, m: wire.FillCheck | wire.FillState, event: SecondarySyncEvent) -> None:
        self._machine.require(event)
        if m.pages_sent != self._pages:
            raise WireError(f"initial sync {self.join}: {m.pages_sent} pages announced, {self._pages} came")
        self._machine.happened(event)

    def on_state(self, m: wire.FillState) -> list[effects.Effect]:
        self._all_here(m, SecondarySyncEvent.FILL_STATE)
        self.index, self.stream = m.index, m.payload
        return [effects.OpenTracker(self.tag)]

    def tracker_open(self) -> list[effects.Effect]:
        self._machine.happened(SecondarySyncEvent.TRACKER_OPEN)
        return [effects.FeedStream(self.tag, self.stream)]

    def colo_ready(self) -> list[effects.Effect]:
        self._machine.happened(SecondarySyncEvent.COLO_READY)
        return [effects.SendData(wire.FillDone(self.view, self.join))]
