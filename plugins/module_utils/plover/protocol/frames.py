# SPDX-License-Identifier: GPL-3.0-or-later
"""Ethernet frames in QEMU's stream framing: u32 big-endian length, then the frame (QEMU net/stream.c). Pure.

No frame needs the length's first byte, so in a run of frames it has the number of the VM's network card. A run of a VM with one card
is what QEMU itself sends and takes.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterable, Iterator

from ..errors import QemuError

LENGTH = struct.Struct("!I")
LENGTH_MASK, CARD_SHIFT = 0xFFFFFF, 24
FRAME_BYTES_MAX = 69_632  # QEMU's NET_BUFSIZE


def wrap(frame: bytes, card: int = 0) -> bytes:
    return LENGTH.pack(card << CARD_SHIFT | len(frame)) + frame


class FrameBuffer:
    """Bytes from QEMU in, runs of whole frames out, each with its length and the number of the card that sent it."""

    def __init__(self, card: int = 0) -> None:
        self._rest, self._card = b"", card

    @property
    def rest_bytes(self) -> int:
        """Bytes held of an incomplete frame."""
        return len(self._rest)

    def feed(self, data: bytes) -> bytes:
        """All frames that are complete now. Raises QemuError on a length that no frame has."""
        data = self._rest + data if self._rest else data
        end, size = 0, len(data)
        while size - end >= 4:
            length = LENGTH.unpack_from(data, end)[0]
            if not 0 < length <= FRAME_BYTES_MAX:
                raise QemuError(f"QEMU sent a frame of {length} bytes; the network socket is out of step")
            if size - end - 4 < length:
                break
            end += 4 + length
        self._rest = data[end:]
        return marked(data[:end], self._card) if self._card else data[:end]


def marked(run: bytes, card: int) -> bytes:
    """A run of one card's frames, as those of ``card``."""
    out, at = bytearray(run), 0
    while at < len(out):
        out[at], length = card, LENGTH.unpack_from(out, at)[0] & LENGTH_MASK
        at += LENGTH.size + length
    return bytes(out)


def split(run: bytes) -> Iterator[memoryview]:
    """The frames in a run of whole frames, without their lengths."""
    view, at = memoryview(run), 0
    while at < len(view):
        length = LENGTH.unpack_from(view, at)[0] & LENGTH_MASK
        yield view[at + 4 : at + 4 + length]
        at += 4 + length


def by_card(run: bytes) -> Iterator[tuple[int, bytes]]:
    """A run of whole frames, cut into runs of one card's: (card, run), in order."""
    begin, at, card = 0, 0, run[0] if run else 0
    while at < len(run):
        word = LENGTH.unpack_from(run, at)[0]
        if word >> CARD_SHIFT != card:
            yield card, run[begin:at]
            begin, card = at, word >> CARD_SHIFT
        at += LENGTH.size + (word & LENGTH_MASK)
    if run:
        yield card, run[begin:]


def whole(run: bytes, cards: int) -> bool:
    """``run`` is whole frames of the first ``cards`` cards, as some card or other sends them."""
    at = 0
    while len(run) - at >= LENGTH.size:
        word = LENGTH.unpack_from(run, at)[0]
        if word >> CARD_SHIFT >= cards or not 0 < word & LENGTH_MASK <= FRAME_BYTES_MAX:
            return False
        at += LENGTH.size + (word & LENGTH_MASK)
    return at == len(run)


def pieces(run: bytes) -> list[bytes]:
    """The frames in a run of whole frames, each with its length."""
    out, at = [], 0
    while at < len(run):
        end = at + LENGTH.size + (LENGTH.unpack_from(run, at)[0] & LENGTH_MASK)
        out.append(run[at:end])
        at = end
    return out


def announcements(mac: str, addresses: Iterable[str]) -> list[bytes]:
    """Frames that tell switches and neighbours where the VM is now: a gratuitous ARP per address, and one RARP."""
    hardware = bytes.fromhex(mac.replace(":", ""))
    head = b"\xff" * 6 + hardware
    out = [
        head + struct.pack("!HHHBBH6s4s6s4s", 0x0806, 1, 0x0800, 6, 4, 1, hardware, ip, b"\0" * 6, ip)
        for ip in (ipaddress.IPv4Address(a).packed for a in addresses)
    ]
    out.append(head + struct.pack("!HHHBBH6s4s6s4s", 0x8035, 1, 0x0800, 6, 4, 3, hardware, b"\0" * 4, hardware, b"\0" * 4))
    return [frame.ljust(60, b"\0") for frame in out]
