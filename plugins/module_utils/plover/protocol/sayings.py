# SPDX-License-Identifier: GPL-3.0-or-later
"""What the secondary's VM has said, as it is told to the leader: hashes only. Pure; core/agreement.py compares them."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ..errors import WireError
from .frames import split
from .segments import Packet, Segment, after, digest, parse

SAYINGS_MAX = 16_384  # in one message
SPAN_BYTES_MAX = 1 << 20  # of TCP, in one saying
_ITEM = struct.Struct("!B3sIIIQQ")  # kind, zeros, start, end, acks, flow, digest
_ZEROS = bytes(3)
ITEM_BYTES = _ITEM.size
SPAN, ENDS, OTHER, BEGINS = 1, 3, 4, 8  # a part of a stream; one with its FIN; a packet; the begin or reset of a connection


class Saying(NamedTuple):
    """``flow``: its digest. ``digest``: of the bytes from ``start`` to ``end``, where a FIN counts as a zero byte; or of the packet.
    What a kind does not have is 0."""

    kind: int
    start: int
    end: int
    acks: int
    flow: int
    digest: int


def pack(saying: Saying) -> bytes:
    return _ITEM.pack(saying.kind, _ZEROS, *saying[1:])


class _Span:
    """Segments of one flow that follow one another."""

    def __init__(self, segment: Segment) -> None:
        self.flow, self.start, self.end = segment.flow, segment.start, segment.start
        self.acks, self.fin, self._payload = segment.acks, False, bytearray()
        self.add(segment)

    def follows(self, segment: Segment) -> bool:
        fits = len(self._payload) + len(segment.payload) < SPAN_BYTES_MAX
        return segment.start == self.end and not self.fin and fits and after(segment.acks, self.acks) >= 0

    def add(self, segment: Segment) -> None:
        self._payload += segment.payload + b"\0" * segment.fin
        self.end, self.acks, self.fin = segment.end, segment.acks, segment.fin

    @property
    def saying(self) -> Saying:
        kind = ENDS if self.fin else SPAN
        return Saying(kind, self.start, self.end, self.acks, digest(self.flow), digest(bytes(self._payload)))


def said(run: bytes) -> list[bytes]:
    """The sayings of a run of whole frames, packed, in as many messages as needed. Frames of nobody's flow that cannot be compared
    are left out."""
    items = list(map(pack, _sayings(run)))
    return [b"".join(items[at : at + SAYINGS_MAX]) for at in range(0, len(items), SAYINGS_MAX)]


def _sayings(run: bytes) -> Iterator[Saying]:
    spans: dict[bytes, _Span] = {}
    for frame in split(run):
        what = parse(bytes(frame))
        if isinstance(what, Packet):
            yield Saying(OTHER, 0, 0, 0, digest(what.flow), what.digest)
        elif isinstance(what, Segment):
            span = spans.get(what.flow)
            if span is not None and span.follows(what):
                span.add(what)
                continue
            if span is not None:
                yield span.saying
            spans[what.flow] = _Span(what)
        elif what.flow:
            span = spans.pop(what.flow, None)
            if span is not None:
                yield span.saying
            yield Saying(BEGINS, 0, 0, 0, digest(what.flow), 0)
    for span in spans.values():
        yield span.saying


def unpack(payload: bytes) -> list[Saying]:
    """Raises WireError."""
    if len(payload) % ITEM_BYTES or len(payload) > SAYINGS_MAX * ITEM_BYTES:
        raise WireError(f"sayings of {len(payload)} bytes: must be whole items of {ITEM_BYTES}, and no more than {SAYINGS_MAX}")
    return list(_checked(_ITEM.iter_unpack(payload)))


def _checked(items: Iterable[tuple[int, bytes, int, int, int, int, int]]) -> Iterator[Saying]:
    for item in items:
        if item[1] != _ZEROS:
            raise WireError("a saying with something between its kind and its numbers")
        saying = Saying(item[0], *item[2:])
        kind, start, end, acks, _flow, what = saying
        if kind not in (SPAN, ENDS, OTHER, BEGINS):
            raise WireError(f"a saying of kind {kind}")
        if kind in (OTHER, BEGINS) and (start or end or acks):
            raise WireError(f"a saying of kind {kind} that has sequence numbers")
        if kind == BEGINS and what:
            raise WireError("the begin of a connection, with a digest")
        least = 1 if kind == ENDS else 0
        if kind in (SPAN, ENDS) and not least <= after(end, start) <= SPAN_BYTES_MAX + 1:
            raise WireError(f"a saying from {start} to {end}")
        yield saying
