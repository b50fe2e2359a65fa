# SPDX-License-Identifier: GPL-3.0-or-later
"""What members send each other: frames of messages, and the payloads inside them."""

from __future__ import annotations

import json
import struct
from array import array
from collections.abc import Iterator
from dataclasses import fields

from plover.consensus import log
from plover.core import join_request, late_input
from plover.errors import CompressionError, WireError
from plover.native import zstd
from plover.native.library import Native
from plover.protocol import codec, packing, pages, sayings, wire
from plover.protocol.frames import by_card, wrap
from plover.protocol.pipe import READ_UP_TO, STREAM, Pipe
from plover.syncvm import block_deltas

from tests.sim.comparisons import Both

from .. import ROOT
from ..target import Target, promise
from .group import TAG

FACTS = {"qemu_version": "7.2.22", "guest_memory_mib": 256, "syncvm_mode": "hashed", "disk_bytes": [1 << 20], "disk_ids": ["naa.5000"]}
COPY = {"held": ["0" * 32], "next": "1" * 32}
PAGES = 64
RING_BYTES = 1 << 16


def _tcp(start: int, flags: int, payload: bytes) -> bytes:
    """A frame from nobody to nobody."""
    segment = struct.pack("!IIIBBHI", 5, start, 7, 80, flags, 9, 0) + payload
    return bytes(12) + b"\x08\0" + struct.pack("!BBHIBBH8x", 0x45, 0, 20 + len(segment), 0, 64, 6, 0) + segment


# Of a VM: ARP; the begin, a part and the end of a TCP stream.
FRAMES = [bytes(12) + b"\x08\x06" + bytes(28), _tcp(1, 0x12, b""), _tcp(2, 0x10, b"answer"), _tcp(8, 0x11, b"bye")]


def one_of_each() -> Iterator[wire.Message]:
    """A message of each kind, with a payload that it may have."""
    entries = log.pack([log.Entry(7, 3, log.INPUT, wrap(bytes(60))), log.Entry(8, 3, log.SYNCVM, bytes(8))])
    page = pages.pack(array("I", [5]), bytes(pages.PAGE_BYTES))
    payloads = {
        wire.Append: entries,
        wire.VoteReply: entries,
        wire.FillPages: page,
        wire.StagePages: page,
        wire.Bitmap: packing.pack_bitmap(zstd, bytes(1024)),
        wire.StageEnd: packing.pack_state(zstd, b"device" * 100, b""),
        wire.JoinRequest: json.dumps(FACTS).encode(),
        wire.LateInput: wrap(bytes(60)),
        wire.Said: b"".join(sayings.said(b"".join(map(wrap, FRAMES)))),
    }
    values = {"Q": 3, "I": 1, "B": 3, "?": True}
    for cls in sorted(wire.Message.__subclasses__(), key=lambda cls: cls.TYPE):
        fixed = [values[kind] for kind in cls.FMT[1:]]
        has_payload = any(field.name == "payload" for field in fields(cls))
        yield cls(*fixed, payloads.get(cls, b"payload")) if has_payload else cls(*fixed)


def encoded(message: wire.Message) -> bytes:
    return b"".join(map(bytes, codec.encode(message, TAG)))


# ---- frames ------------------------------------------------------------------------------------------------------
def _decoded(*parts: bytes) -> list[wire.Message]:
    decoder = codec.Decoder(TAG)
    return [message for part in parts for message in decoder.feed(part)]


def decode(data: bytes) -> None:
    """The same messages, however the bytes are cut; and their bytes give them again."""
    found = _decoded(data)
    middle = len(data) // 3
    promise(found == _decoded(data[:middle], data[middle:]), "other messages if the bytes come in two parts")
    for message in found:
        promise(_decoded(encoded(message)) == [message], f"{type(message).__name__} is not what its bytes say")


def _messages() -> Iterator[tuple[str, bytes]]:
    for message in one_of_each():
        yield type(message).__name__, encoded(message)


# ---- payloads ----------------------------------------------------------------------------------------------------
def log_entries(data: bytes) -> None:
    entries = log.unpack(data)
    promise(log.pack(entries) == data, "a log that its entries do not give again")
    promise(log.last_index(data, -1) == (entries[-1].index if entries else -1), "another last index")


def _log_entries() -> Iterator[tuple[str, bytes]]:
    yield "input", log.pack([log.Entry(1, 1, log.INPUT, wrap(bytes(60)))])
    yield (
        "all-kinds",
        log.pack([log.Entry(1, 1, log.INPUT, b"xyz"), log.Entry(2, 1, log.SYNCVM, bytes(8)), log.Entry(3, 2, log.AUDIT, bytes(8))]),
    )


class Memory:
    """What the decoders of payloads ask of guest memory."""

    decompress = staticmethod(zstd.decompress)

    def __init__(self) -> None:
        self._native = Native(str(ROOT / "native" / "build"))

    def count_blocks(self, masks: array) -> int:
        return self._native.count_blocks(masks)

    def bits_of(self, bitmap: bytes, bits: int) -> array:
        return self._native.bitmap_pages(bitmap, bits)


MEMORY = Memory()


def page_sets(data: bytes) -> None:
    """The first byte says what the rest is, the second one how many pages."""
    kind, count, rest = data[0] % 7 if data else 0, data[1] if data[1:] else 0, data[2:]
    index = array("I", range(count))
    if kind == 0:
        found, contents = pages.unpack(count, rest, PAGES)
        promise(pages.pack(found, bytes(contents)) == rest, "pages that do not give their bytes again")
    elif kind == 1:
        found = packing.unpack_bitmap(MEMORY, rest, PAGES * count)
        promise(packing.unpack_bitmap(MEMORY, packing.pack_bitmap(zstd, found), PAGES * count) == found, "another bitmap")
    elif kind == 2:
        packing.unpack_blocks(MEMORY, rest, count * block_deltas.page_bytes_max())
    elif kind == 3:
        found = packing.unpack_state(MEMORY, rest, 8 * count, b"")
        promise(packing.unpack_state(MEMORY, packing.pack_state(zstd, found, found), 8 * count, found) == found, "another device state")
    elif kind == 4:
        masks, hashes, blocks = block_deltas.unpack(count, rest, MEMORY)
        promise(block_deltas.pack(masks, hashes, blocks) == rest, "blocks that do not give their bytes again")
    elif kind == 5:
        block_deltas.asked_again(rest, index)
    else:
        promise(len(block_deltas.chosen(rest, index, MEMORY)) <= count, "more pages than were asked about")


def _page_sets() -> Iterator[tuple[str, bytes]]:
    yield "pages", b"\0\1" + pages.pack(array("I", [5]), bytes(pages.PAGE_BYTES))
    yield "bitmap", b"\1\4" + bytes(32)
    yield "packed-bitmap", b"\1\x20" + packing.pack_bitmap(zstd, bytes(256))
    yield "blocks", b"\2\1" + zstd.compress(bytes(100))
    yield "state", b"\3\x08" + packing.pack_state(zstd, b"state" + bytes(59), b"")
    yield "deltas", b"\4\1" + block_deltas.pack(array("Q", [5]), array("Q", [1]), bytes(128))
    yield "asked-again", b"\5\4" + array("I", [1, 3]).tobytes()
    yield "chosen", b"\6\x10" + (5).to_bytes(8, "little")


def unpacked(data: bytes) -> None:
    """Never more memory than was agreed, whatever a frame's head says; what was packed is unpacked."""
    promise(len(zstd.decompress(data, 4096)) <= 4096, "more bytes than were allowed")


def _unpacked() -> Iterator[tuple[str, bytes]]:
    yield "zeros", zstd.compress(bytes(4096))
    yield "text", zstd.compress(b"".join(b"%d " % n for n in range(800)))
    yield "over", zstd.compress(bytes(64 << 20))


def join(data: bytes) -> None:
    theirs = join_request.parse(data)
    text = join_request.differences(FACTS, theirs)
    promise(not text or text.isprintable(), "a reason that cannot be logged")
    promise(len(text) < 4096, f"a reason of {len(text)} characters")
    if isinstance(theirs, dict):
        join_request.one_for_both(FACTS["disk_ids"], theirs.get("disk_ids"), ["/a"])
        said = join_request.copies(theirs.get("disk_copy"))
        promise(said is None or len(said[0]) <= join_request.NAMES_MAX, "more names than are allowed")


def _join() -> Iterator[tuple[str, bytes]]:
    yield "equal", json.dumps({**FACTS, "disk_copy": COPY}).encode()
    yield "older", json.dumps({"qemu_version": "7.2.21"}).encode()


def late(data: bytes) -> None:
    promise(late_input.checked(data, cards := 1 + len(data) % 8) == data, "other frames")
    runs = list(by_card(data))
    promise(b"".join(run for _card, run in runs) == data and all(card < cards for card, _run in runs), "frames of another card")


def _late() -> Iterator[tuple[str, bytes]]:
    yield "two", wrap(bytes(60)) + wrap(b"x" * 1500)
    yield "two-cards", wrap(bytes(60), 1) + wrap(b"x" * 1499)


def said(data: bytes) -> None:
    told = sayings.unpack(data)
    promise(b"".join(map(sayings.pack, told)) == data, "other sayings")
    agreement = Both().agreement()
    agreement.begin()
    agreement.hear_packed(data)
    agreement.hold_run(array("Q", range(1, len(FRAMES) + 1)), b"".join(map(wrap, FRAMES)))
    promise(not agreement.leaving(), "output leaves before a syncvm is staged")
    agreement.open()
    leaving = agreement.leaving()
    promise(len(set(leaving)) == len(leaving) <= len(FRAMES), "output leaves twice")


def _said() -> Iterator[tuple[str, bytes]]:
    yield "each-kind", b"".join(sayings.said(b"".join(map(wrap, FRAMES))))
    yield "two-spans", b"".join(sayings.said(wrap(FRAMES[2])) + sayings.said(wrap(FRAMES[3])))


def vm_frame(data: bytes) -> None:
    """A guest chooses each byte of its frames. Whatever it is, the sayings of it are those that a leader takes."""
    run = b"".join(wrap(data[at : at + 1500]) for at in range(0, len(data), 1500))
    for told in Both().said(run):
        sayings.unpack(told)


def _vm_frames() -> Iterator[tuple[str, bytes]]:
    yield from zip(("arp", "begin", "part", "end"), FRAMES)


class _Wire:
    """A ring with room for everything."""

    ring_bytes = RING_BYTES

    def write(self, frame: bytes, read_up_to: int, keep: int) -> int | None:
        return 0

    write_pages = write


def pipe(data: bytes) -> None:
    """Frames of a ring: length (2 bytes), whether it is raw (1), and then its bytes."""
    got, position = bytearray(), RING_BYTES
    under_test = Pipe(_Wire(), got.extend, lambda: None, 1 << 16, 1 << 20)
    while len(data) >= 3:
        length, raw, data = int.from_bytes(data[:2], "big"), data[2] & 1, data[3:]
        position += length
        under_test.received(data[:length], position, bool(raw))
        data = data[length:]


def _pipe() -> Iterator[tuple[str, bytes]]:
    for name, frame in (("stream", STREAM + b"data"), ("position", READ_UP_TO + (RING_BYTES + 64).to_bytes(8, "little"))):
        yield name, len(frame).to_bytes(2, "big") + b"\0" + frame


WIRE = (WireError,)
TARGETS = [
    Target("wire", decode, WIRE, _messages),
    Target("log_entries", log_entries, WIRE, _log_entries),
    Target("page_sets", page_sets, WIRE, _page_sets),
    Target("zstd", unpacked, (CompressionError,), _unpacked),
    Target("join_request", join, WIRE, _join, is_json=True),
    Target("late_input", late, WIRE, _late),
    Target("sayings", said, WIRE, _said),
    Target("vm_frame", vm_frame, (), _vm_frames),
    Target("pipe", pipe, WIRE, _pipe),
]
