# SPDX-License-Identifier: GPL-3.0-or-later
"""Dirty bitmaps, blocks of pages and device states on the wire: mostly zeros, or mostly what the other side has already.

zstd's first level leaves a sixth of the blocks of a syncvm (142 kB, Redis and a web server), in 0.2 ms; zlib's left a bit
more and took 0.6. What comes in is never unpacked beyond the length it must have.
"""

from __future__ import annotations

from typing import Protocol

from ..errors import CompressionError, WireError
from .pages import bitmap_bytes, check_bitmap

STATE_BYTES_MAX = 64 << 20


class Compressor(Protocol):
    """libzstd, behind its adapter (native/zstd.py)."""

    def compress(self, data: bytes | bytearray) -> bytes:
        """One frame, with its content's size in its head."""

    def decompress(self, frame: bytes | bytearray, size_max: int) -> bytes:
        """Raises CompressionError if it is no frame of at most ``size_max`` bytes."""


def pack_bitmap(zstd: Compressor, bitmap: bytes | bytearray) -> bytes:
    """Packed, if that is shorter: so its length tells whether it is."""
    packed = zstd.compress(bitmap)
    return packed if len(packed) < len(bitmap) else bytes(bitmap)


def unpack_bitmap(zstd: Compressor, payload: bytes, pages: int) -> bytes:
    """Raises WireError if it is none of ``pages`` pages."""
    size = bitmap_bytes(pages)
    out = payload if len(payload) == size else _unpacked(zstd, payload, range(size, size + 1), "dirty bitmap")
    check_bitmap(out, pages)
    return out


def unpack_blocks(zstd: Compressor, payload: bytes, size_max: int) -> bytes:
    """Raises WireError if they are more than ``size_max`` bytes."""
    return _unpacked(zstd, payload, range(size_max + 1), "blocks of pages")


def pack_state(zstd: Compressor, state: bytes, base: bytes) -> bytes:
    """A device state, as what differs from ``base``: of equal length, or empty."""
    return zstd.compress(_xor(state, base) if base else state)


def unpack_state(zstd: Compressor, payload: bytes, size: int, base: bytes) -> bytes:
    """Raises WireError if it is no device state of ``size`` bytes."""
    if size > STATE_BYTES_MAX or (base and len(base) != size):
        raise WireError(f"device state of {size} bytes, after one of {len(base)}; the limit is {STATE_BYTES_MAX}")
    out = _unpacked(zstd, payload, range(size, size + 1), "device state")
    return _xor(out, base) if base else out


def _xor(a: bytes, b: bytes) -> bytes:
    return (int.from_bytes(a, "little") ^ int.from_bytes(b, "little")).to_bytes(len(a), "little")


def _unpacked(zstd: Compressor, payload: bytes, sizes: range, what: str) -> bytes:
    """Raises WireError unless its length is one of ``sizes``."""
    try:
        out = zstd.decompress(payload, sizes.stop - 1)
    except CompressionError as error:
        raise WireError(
            f"{what}: {len(payload)} bytes do not unpack to {sizes.stop - 1}: {error}; guest_memory_mib must be equal"
        ) from error
    if len(out) not in sizes:
        raise WireError(f"{what}: {len(payload)} bytes unpack to {len(out)}, not to {sizes.start}; guest_memory_mib must be equal")
    return out
