# SPDX-License-Identifier: GPL-3.0-or-later
"""Re-protection: a new secondary is filled while the leader serves its clients. Sans-I/O.

Leader: rounds of pages, zero pages left out of the first (fresh RAM is zero), until few are dirty; then stop,
capture the device stream, send the last dirty pages and the stream, run on. From that stop on, output rests on
the new secondary too: it may be recorded in sync, so the leader holds everything until the first syncvm.

Disks, if there are any, are copied first. Once they are attached, writes go to both images, so the leader's VM stands
still until the secondary has loaded its state: only then does it keep apart what its own VM has not done yet.
"""
from __future__ import annotations

from array import array

from . import actions as act
from . import pages as pg
from . import wire
from .errors import WireError

OPEN, COPY, LIVE, DRAIN, STOP, ATTACH, CAPTURE, FINAL, LOADING, RECORDING = (
    "open", "copy", "live", "drain", "stop", "attach", "capture", "final", "loading", "recording")
ROUNDS_MAX = 8
FEW_PAGES = 512
CHUNKS_PER_TURN = 8


class LeaderFill:
    def __init__(self, view: int, join: int, memory: act.Memory, disks: bool = False) -> None:
        self.view, self.join, self._memory, self.disks = view, join, memory, disks
        self.tag = ("fill", view, join)
        self.phase = OPEN
        self.held: tuple[str, ...] = ()  # names of the copies of the disks that the secondary has
        self.copy = f"{view}-{join}"  # and of the one that it gets
        self._copied = (0, 1)  # bytes of the disks: done, of how many
        self.stopped_at = 0.0
        self.progress_at = 0.0
        self._pending, self._next = array("I"), 0
        self._fetching = False  # FetchDirty is under way
        self._round = self.pages_sent = 0
        self._index = 0

    def start(self, now: float) -> list:
        self.progress_at = now
        return [act.OpenTracker(self.tag)]

    def tracker_open(self) -> list:
        if not self.disks:
            return self._live()
        self.phase = COPY
        return [act.CopyDisks(self.tag, self.held, self.copy)]

    def copy_progress(self, done: int, total: int, now: float) -> None:
        self._copied, self.progress_at = (done, total), now

    def disks_copied(self) -> list:
        return self._live() if self.phase == COPY else []

    def _live(self) -> list:
        self.phase = LIVE
        return self._fetch()

    def _fetch(self) -> list:
        self._fetching = True
        return [act.FetchDirty(self.tag)]

    def dirty_fetched(self) -> list:
        """A round begins: the first with all pages, the others with what was written meanwhile."""
        if not self._fetching:
            return []
        self._fetching = False
        written = self._memory.pages_of(self._memory.fetch_dirty())
        self._pending, self._next = written if self._round else pg.all_pages(self._memory.pages), 0
        if not self._round or (len(written) > FEW_PAGES and self._round < ROUNDS_MAX):
            return [act.Yield()]
        self.phase = DRAIN  # what is pending now is sent with the last round
        return [act.Drain(self.tag)]

    def writable(self) -> list:
        """Send some pages; the shell calls again when the channel has room."""
        if self.phase not in (LIVE, FINAL) or self._fetching:
            return []
        out: list = []
        for _turn in range(CHUNKS_PER_TURN):
            if self._next >= len(self._pending):
                return out + (self._round_done() if self.phase == LIVE else [])
            index = self._pending[self._next:self._next + pg.CHUNK_PAGES]
            self._next += len(index)
            if self._round == 0:
                index = self._memory.nonzero(index)
            if len(index):
                self.pages_sent += len(index)
                # Of a VM that runs: what changes until it is sent is dirty again. The last round's must be of this moment.
                data = self._memory.lend(index) if self.phase == LIVE else self._memory.gather(index)
                payload = pg.pack(index, data)
                out.append(act.SendData(wire.FillPages(self.view, self.join, len(index), payload)))
        return out + [act.Yield()]

    @property
    def final_done(self) -> bool:
        return self.phase == FINAL and self._next >= len(self._pending)

    @property
    def progress(self) -> str:
        """For the operator."""
        done, total = (number >> 20 for number in self._copied)
        return f"{self.phase} {self.percent} %" + (f" ({done} of {total} MiB)" if self.phase == COPY and total else "")

    @property
    def percent(self) -> int:
        """Progress of the present round."""
        if self.phase == COPY:
            return 100 * self._copied[0] // max(1, self._copied[1])
        if self.phase == LIVE and len(self._pending):
            return 100 * self._next // len(self._pending)
        return 0 if self._fetching else 100

    def _round_done(self) -> list:
        self._round += 1
        return self._fetch()

    def drained(self, now: float) -> list:
        if self.phase != DRAIN:
            return []
        self.phase, self.stopped_at = STOP, now
        return [act.StopVm(self.tag)]

    def vm_stopped(self, index: int) -> list:
        """``index``: the log is consumed up to here."""
        self._index = index
        if not self.disks:
            return self._capture()
        self.phase = ATTACH
        return [act.AttachDisks(self.tag)]

    def disks_attached(self) -> list:
        return self._capture() if self.phase == ATTACH else []

    def _capture(self) -> list:
        self.phase = CAPTURE
        return [act.CaptureStream(self.tag)]

    def stream_captured(self) -> list:
        self.phase = FINAL
        last = self._memory.fetch_dirty()
        self._pending = array("I", sorted(set(self._pending) | set(self._memory.pages_of(last))))
        self._next = 0
        return self.writable()

    def end(self, stream: bytes) -> list:
        """All pages are on their way: the stream follows, and the leader's VM may run."""
        self.phase = LOADING
        return [act.SendData(wire.FillState(self.view, self.join, self._index, self.pages_sent, stream))]

    def on_done(self) -> None:
        if self.phase != LOADING:
            raise WireError(f"fill {self.join} reported done in phase {self.phase}")
        self.phase = RECORDING

    @property
    def holds_output(self) -> bool:
        """From the stop on the new secondary may become the only one who knows."""
        return self.phase in (STOP, ATTACH, CAPTURE, FINAL, LOADING, RECORDING)

    @property
    def stops_input(self) -> bool:
        """The VM stands still, or is about to."""
        return self.phase in (DRAIN, STOP, ATTACH, CAPTURE, FINAL) or (self.disks and self.phase == LOADING)


class SecondaryFill:
    """The joining side. Its QEMU is an empty shell until the stream is fed, so pages go straight in."""

    def __init__(self, view: int, join: int, memory: act.Memory) -> None:
        self.view, self.join, self._memory = view, join, memory
        self.tag = ("fill", view, join)
        self.index = 0
        self._pages = 0
        self._stream: bytes | None = None

    def on_pages(self, m: wire.FillPages) -> list:
        if self._stream is not None:
            raise WireError("pages after the end of the fill")
        index, data = pg.unpack(m.count, m.payload, self._memory.pages)
        self._memory.apply(index, data)
        self._pages += m.count
        return []

    def on_state(self, m: wire.FillState) -> list:
        if self._stream is not None or m.pages_sent != self._pages:
            raise WireError(f"fill {self.join}: {m.pages_sent} pages announced, {self._pages} came")
        self.index, self._stream = m.index, m.payload
        return [act.OpenTracker(self.tag)]

    def tracker_open(self) -> list:
        return [act.FeedStream(self.tag, self._stream or b"")]

    def colo_ready(self) -> list:
        return [act.SendData(wire.FillDone(self.view, self.join))]
