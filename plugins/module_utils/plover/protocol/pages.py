# SPDX-License-Identifier: GPL-3.0-or-later
"""Pages on the wire: page numbers (u32, native order; both ends are x86-64), then the pages themselves."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import overload

from ..errors import WireError

PAGE_BYTES = 4096
BLOCK_BYTES = 64
CHUNK_PAGES = 256


class PageRun:
    """Pages of guest memory that the network card itself reads when they are sent.

    They must not change until then, unless the receiver can cope with that.
    """

    def __init__(self, index: array[int], gather: Callable[[array[int]], bytes | bytearray]) -> None:
        self.index, self._gather = index, gather

    def __len__(self) -> int:
        return PAGE_BYTES * len(self.index)

    def __bytes__(self) -> bytes:
        return bytes(self._gather(self.index))

    def split(self, pages: int) -> list[PageRun]:
        """The same pages in runs of at most ``pages`` each."""
        return [PageRun(self.index[at : at + pages], self._gather) for at in range(0, len(self.index), pages)]


class Parts:
    """A payload of several buffers, the last of which may be a PageRun."""

    def __init__(self, *buffers: bytes | PageRun) -> None:
        self.buffers = buffers

    def __len__(self) -> int:
        return sum(map(len, self.buffers))


@overload
def pack(index: array[int], data: bytes | bytearray) -> bytes: ...


@overload
def pack(index: array[int], data: PageRun) -> Parts: ...


def pack(index: array[int], data: bytes | bytearray | PageRun) -> bytes | Parts:
    if isinstance(data, PageRun):
        return Parts(index.tobytes(), data)
    return b"".join((index.tobytes(), data))


def digest_of(index: array[int], hashes: array[int]) -> bytes:
    """Whole pages as part of a syncvm's digest: their numbers and hashes stand for them, so that they need not be copied."""
    return index.tobytes() + hashes.tobytes()


def unpack(count: int, payload: bytes, pages: int) -> tuple[array[int], memoryview]:
    """(page numbers, their contents). Raises WireError unless the length fits ``count``, and the numbers a guest of ``pages``."""
    if len(payload) != count * (4 + PAGE_BYTES):
        raise WireError(f"{count} pages announced, {len(payload)} bytes came")
    index = array("I")
    index.frombytes(payload[: count * 4])
    if count and max(index) >= pages:
        raise WireError(f"page {max(index)} is outside the guest's {pages} pages; guest_memory_mib must be equal")
    return index, memoryview(payload)[count * 4 :]


def all_pages(pages: int) -> array[int]:
    return array("I", range(pages))


def bitmap_bytes(bits: int) -> int:
    """Length of a bitmap of ``bits`` bits, in whole 64-bit words."""
    return (bits + 63) // 64 * 8


def check_bitmap(bitmap: bytes, bits: int) -> None:
    """Raises WireError if ``bitmap`` is not one of ``bits`` bits in whole 64-bit words."""
    if len(bitmap) != bitmap_bytes(bits):
        raise WireError(f"bitmap of {len(bitmap)} bytes for {bits} pages; guest_memory_mib must be equal")
    if bits % 64 and int.from_bytes(bitmap[-8:], "little") >> bits % 64:
        raise WireError(f"bitmap of {bits} pages with bits behind the last one")
