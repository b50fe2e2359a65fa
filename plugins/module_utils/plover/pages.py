# SPDX-License-Identifier: GPL-3.0-or-later
"""Pages on the wire: page numbers (u32, native order; both ends are x86-64), then the pages themselves."""
from __future__ import annotations

from array import array

from .errors import WireError

PAGE_BYTES = 4096
BLOCK_BYTES = 64
CHUNK_PAGES = 256


def pack(index: array, data: bytes) -> bytes:
    return b"".join((index.tobytes(), data))


def unpack(count: int, payload: bytes, pages: int) -> tuple[array, memoryview]:
    """(page numbers, their contents); raises WireError unless all fits a guest of ``pages`` pages."""
    if len(payload) != count * (4 + PAGE_BYTES):
        raise WireError(f"{count} pages announced, {len(payload)} bytes came")
    index = array("I")
    index.frombytes(payload[:count * 4])
    if count and max(index) >= pages:
        raise WireError(f"page {max(index)} is outside the guest's {pages} pages; guest_memory_mib must be equal")
    return index, memoryview(payload)[count * 4:]


def all_pages(pages: int) -> array:
    return array("I", range(pages))


def bitmap_bytes(bits: int) -> int:
    """Of a bitmap in whole 64-bit words."""
    return (bits + 63) // 64 * 8


def check_bitmap(bitmap: bytes, bits: int) -> None:
    """Raises WireError if ``bitmap`` is not one of ``bits`` bits in whole 64-bit words."""
    if len(bitmap) != bitmap_bytes(bits):
        raise WireError(f"bitmap of {len(bitmap)} bytes for {bits} pages; guest_memory_mib must be equal")
    if bits % 64 and int.from_bytes(bitmap[-8:], "little") >> bits % 64:
        raise WireError(f"bitmap of {bits} pages with bits behind the last one")
