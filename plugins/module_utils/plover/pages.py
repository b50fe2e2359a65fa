# SPDX-License-Identifier: GPL-3.0-or-later
"""Pages on the wire: page numbers (u32, native order; both ends are x86-64), then the pages themselves."""
from __future__ import annotations

from array import array

from .errors import WireError

PAGE_BYTES = 4096
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


def check_bitmap(bitmap: bytes, pages: int) -> None:
    """Raises WireError if ``bitmap`` is not one of ``pages`` bits in whole 64-bit words."""
    if len(bitmap) != (pages + 63) // 64 * 8:
        raise WireError(f"dirty bitmap of {len(bitmap)} bytes for {pages} pages; guest_memory_mib must be equal")
