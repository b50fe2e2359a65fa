# SPDX-License-Identifier: GPL-3.0-or-later
"""The data channel over two rings: all bytes, in order, however slowly the other side reads; bounded; no other frame."""

from __future__ import annotations

import random
from array import array

import pytest
from plover.errors import WireError
from plover.protocol.pages import PageRun
from plover.protocol.pipe import KEPT_BYTES, PART_BYTES_MAX, Pipe

from tests.examples import examples

RING = 1 << 20


class Ring:
    """A ring's room, as native/src/rdma/ring.c counts it, without the memory."""

    def __init__(self) -> None:
        self.ring_bytes, self.head = RING, RING
        self.frames: list[tuple[bytes, int, bool]] = []

    def write(self, frame: bytes, read_up_to: int, keep: int, raw: bool = False) -> int | None:
        assert self.head - read_up_to <= RING, "overwrites what was not read"
        need = (24 + (len(frame) + 7) // 8 * 8 + 8 + 63) // 64 * 64
        rest = RING - self.head % RING
        if self.head - read_up_to + keep + need + (rest if rest < need else 0) > RING:
            return None
        self.head += need + (rest if rest < need else 0)
        self.frames.append((frame, self.head, raw))
        return self.head

    def write_pages(self, run, read_up_to: int, keep: int) -> int | None:
        assert len(run) <= PART_BYTES_MAX
        return self.write(bytes(run), read_up_to, keep, raw=True)


def pair(**limits):
    rings, got, freed = [Ring(), Ring()], [bytearray(), bytearray()], [0, 0]

    def freed_again(n):
        freed[n] += 1

    limits = {"high_water": 1 << 18, "limit": 64 << 20, **limits}
    pipes = [Pipe(rings[n], got[n].extend, lambda n=n: freed_again(n), **limits) for n in range(2)]
    return pipes, rings, got, freed


def carry(pipes, rings, src: int, frames: int) -> None:
    for _ in range(min(frames, len(rings[src].frames))):
        pipes[1 - src].received(*rings[src].frames.pop(0))


@pytest.mark.parametrize("seed", range(20))
def test_both_streams_come_whole_and_in_order(seed):
    rng = random.Random(seed)
    pipes, rings, got, _ = pair()
    sent = [bytearray(), bytearray()]
    for n in range(examples(400)):  # each ring comes round some times
        src = rng.randrange(2)
        if rng.random() < 0.5:
            part = rng.randbytes(rng.choice((0, 1, 60, 5000, 300_000)))
            pages = array("I", range(rng.choice((0, 1, 100))))
            run = PageRun(pages, lambda index, n=n: bytes([n % 256]) * 4096 * len(index))
            sent[src] += part + bytes(run)
            pipes[src].send([part[:10], part[10:], run])
        carry(pipes, rings, src, rng.randrange(4))
    while any(ring.frames for ring in rings):
        carry(pipes, rings, 0, 1), carry(pipes, rings, 1, 1)
    assert got[1] == sent[0] and got[0] == sent[1]
    assert not any(pipe.unsent_bytes for pipe in pipes)


def test_a_writer_that_is_not_read_stops_says_so_and_goes_on():
    pipes, rings, got, freed = pair()
    data = random.Random(1).randbytes(3 << 20)
    pipes[0].send([data])
    assert not pipes[0].writable and pipes[0].unsent_bytes > 1 << 20
    assert rings[0].head - RING <= RING - KEPT_BYTES, "no room for the word on the other direction"
    while rings[0].frames or rings[1].frames:
        carry(pipes, rings, 0, 1), carry(pipes, rings, 1, 1)
    assert got[1] == data and pipes[0].writable and freed == [1, 0]


def test_what_is_unsent_is_bounded():
    pipes, *_ = pair(limit=2 << 20)
    with pytest.raises(OverflowError, match="over 2097152 bytes unsent"):
        pipes[0].send([bytes(4 << 20)])


@pytest.mark.parametrize(
    "frame, words",
    [(b"", "kind b''"), (b"x", "kind b'x'"), (b"r" + bytes(7), "kind b'r'"), (b"r" + (RING - 64).to_bytes(8, "little"), "has read up to")],
)
def test_what_is_no_pipes_frame_is_refused(frame, words):
    pipes, *_ = pair()
    with pytest.raises(WireError, match=words):
        pipes[0].received(frame, RING + 64)


def test_a_part_fits_a_ring_of_the_least_size():
    assert PART_BYTES_MAX + 1 + 64 <= (8 << 20) // 2
