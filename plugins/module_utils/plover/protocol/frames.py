# SPDX-License-Identifier: GPL-3.0-or-later
"""Ethernet frames in QEMU's stream framing: u32 big-endian length, then the frame (QEMU net/stream.c). Pure."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterator

from ..errors import QemuError

LENGTH = struct.Struct("!I")
FRAME_BYTES_MAX = 69_632  # QEMU's NET_BUFSIZE


def wrap(frame: bytes) -> bytes:
    return LENGTH.pack(len(frame)) + frame


class FrameBuffer:
    """Bytes from QEMU in, runs of whole frames out, each with its length."""

    def __init__(self) -> None:
        self._rest = b""

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
        return data[:end]


def split(run: bytes) -> Iterator[memoryview]:
    """The frames in a run of whole frames, without their lengths."""
    view, at = memoryview(run), 0
    while at < len(view):
        length = LENGTH.unpack_from(view, at)[0]
        yield view[at + 4 : at + 4 + length]
        at += 4 + length


def pieces(run: bytes) -> list[bytes]:
    """The frames in a run of whole frames, each with its length."""
    out, at = [], 0
    while at < len(run):
        end = at + LENGTH.size + LENGTH.unpack_from(run, at)[0]
        out.append(run[at:end])
        at = end
    return out


def announcements(mac: str, addresses: list[str]) -> list[bytes]:
    """Frames that tell switches and neighbours where the VM is now: a gratuitous ARP per address, and one RARP."""
    hardware = bytes.fromhex(mac.replace(":", ""))
    head = b"\xff" * 6 + hardware
    out = [
        head + struct.pack("!HHHBBH6s4s6s4s", 0x0806, 1, 0x0800, 6, 4, 1, hardware, ip, b"\0" * 6, ip)
        for ip in (ipaddress.IPv4Address(a).packed for a in addresses)
    ]
    out.append(head + struct.pack("!HHHBBH6s4s6s4s", 0x8035, 1, 0x0800, 6, 4, 3, hardware, b"\0" * 4, hardware, b"\0" * 4))
    return [frame.ljust(60, b"\0") for frame in out]
