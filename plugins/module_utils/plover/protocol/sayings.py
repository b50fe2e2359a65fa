# SPDX-License-Identifier: GPL-3.0-or-later
"""What the secondary's VM has said, as it is told to the leader: hashes only. Pure; core/agreement.py compares them."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import NamedTuple

from ..errors import WireError
from .frames import split
from .segments import Packet, Segment, after, digest, parse

SAYINGS_MAX = 16_384  # in one message
SPAN_BYTES_MAX = 1 << 20  # of TCP, in one saying
_ITEM = struct.Struct("!B3xIIIQQ")  # kind, start, end, acks, flow, digest
TCP, FIN, OTHER = 1, 2, 4


class Saying(NamedTuple):
    """``flow``: digest of it; 0: not TCP, and the other numbers are 0, too. ``digest``: of the bytes from ``start`` to ``end``
    (TCP; a FIN counts as a zero byte), or of the packet."""

    flow: int
    start: int
    end: int
    acks: int
    fin: bool
    digest: int


class _Span:
    """Segments of one flow that follow one another."""

    def __init__(self, segment: Segment) -> None:
        self.start = self.end = segment.start
        self.acks, self.fin, self.payload = segment.acks, False, bytearray()
        self.add(segment)

    def follows(self, segment: Segment) -> bool:
        fits = len(self.payload) + len(segment.payload) < SPAN_BYTES_MAX
        return segment.start == self.end and not self.fin and fits and after(segment.acks, self.acks) >= 0

    def add(self, segment: Segment) -> None:
        self.payload += segment.payload + b"\0" * segment.fin
        self.end, self.acks, self.fin = segment.end, segment.acks, segment.fin


def said(run: bytes) -> bytes:
    """The sayings of a run of whole frames, packed; what cannot be compared is left out."""
    out, spans = bytearray(), {}
    for frame in split(run):
        what = parse(bytes(frame))
        if isinstance(what, Packet):
            out += _ITEM.pack(OTHER, 0, 0, 0, 0, what.digest)
        elif isinstance(what, Segment):
            span = spans.get(what.flow)
            if span is not None and span.follows(what):
                span.add(what)
                continue
            if span is not None:
                out += _packed(what.flow, span)
            spans[what.flow] = _Span(what)
    for flow, span in spans.items():
        out += _packed(flow, span)
    return bytes(out)


def _packed(flow: bytes, span: _Span) -> bytes:
    return _ITEM.pack(TCP | FIN * span.fin, span.start, span.end, span.acks, digest(flow), digest(bytes(span.payload)))


def unpack(payload: bytes) -> list[Saying]:
    """Raises WireError."""
    if len(payload) % _ITEM.size or len(payload) > SAYINGS_MAX * _ITEM.size:
        raise WireError(f"sayings of {len(payload)} bytes: must be whole items of {_ITEM.size}, and no more than {SAYINGS_MAX}")
    return list(_checked(_ITEM.iter_unpack(payload)))


def _checked(items: Iterable[tuple[int, ...]]) -> Iterable[Saying]:
    for kind, start, end, acks, flow, what in items:
        if kind not in (TCP, TCP | FIN, OTHER):
            raise WireError(f"a saying of kind {kind}")
        if kind == OTHER and (start or end or acks or flow):
            raise WireError("a saying of a packet that has sequence numbers")
        if kind != OTHER and not 0 <= after(end, start) <= SPAN_BYTES_MAX + 1:
            raise WireError(f"a saying from {start} to {end}")
        yield Saying(flow, start, end, acks, kind == TCP | FIN, what)
