# SPDX-License-Identifier: GPL-3.0-or-later
"""Block deltas: divergent pages on the wire, block by block. In most of them only a few 64-byte blocks differ.

The secondary sends 16-bit hashes of all blocks of the divergent pages (128 bytes a page). The leader sends, per page, a mask
of the blocks that differ, the page's own 64-bit hash, then these blocks. Two blocks that differ may have the same hash: then
the hash of the patched page is wrong, and the secondary asks for the whole page.

Under a Redis load 7 of a page's 64 blocks differ: a page costs 590 bytes instead of 4100 (blocks of 32 bytes: 600, of 128:
700, of 256: 920). 128 of them are hashes; packed (protocol/packing.py) it costs some 220. One page in 9000 comes out wrong,
so one in fifty syncvms with 200 such pages needs another round trip. Wider hashes would cost more than that: in bytes, and
at 1 Gbit/s in time too.
"""

from __future__ import annotations

from array import array

from ..errors import WireError
from ..ports import effects
from ..protocol import pages as pg

# The round trip and the hashing lengthen the pause by some 0.5 ms; each page saves 3500 bytes: 3 µs at 10 Gbit/s, 28 at 1 Gbit/s.
PAGES_MIN = 64
PAGES_MAX = 16384  # the leader keeps a copy of them (64 MiB) until they are staged; their hashes (2 MiB) are one message


def pay(divergent: int) -> bool:
    """True if this many pages are better compared block by block than sent whole."""
    return PAGES_MIN <= divergent <= PAGES_MAX


def page_blocks() -> int:
    return pg.PAGE_BYTES // pg.BLOCK_BYTES


def page_bytes_max() -> int:
    """The most that one page sent as blocks takes: mask, hash, all of its blocks."""
    return 8 + 8 + pg.PAGE_BYTES


def chosen(bitmap: bytes, index: array[int], memory: effects.Memory) -> array[int]:
    """The pages of ``index`` whose positions are set in ``bitmap``. Raises WireError if ``bitmap`` does not fit ``index``."""
    pg.check_bitmap(bitmap, len(index))
    out = array("I", map(index.__getitem__, memory.bits_of(bitmap, len(index))))
    if not 0 < len(out) <= PAGES_MAX:
        raise WireError(f"blocks of {len(out)} pages asked for; 1 to {PAGES_MAX} are allowed")
    return out


def hashes_of(payload: bytes, pages: int) -> array[int]:
    """The hashes of all blocks of ``pages`` pages. Raises WireError if the length is wrong."""
    out = array("H")
    if len(payload) != out.itemsize * page_blocks() * pages:
        raise WireError(f"{len(payload)} bytes of block hashes for {pages} pages")
    out.frombytes(payload)
    return out


def pack(masks: array[int], hashes: array[int], blocks: effects.Buffer) -> bytes:
    return b"".join((masks.tobytes(), hashes.tobytes(), blocks))


def unpack(count: int, payload: bytes, memory: effects.Memory) -> tuple[array[int], array[int], memoryview]:
    """(masks, hashes of the pages, blocks) of ``count`` pages. Raises WireError unless ``payload`` is exactly that."""
    masks, hashes, head = array("Q"), array("Q"), 8 * count
    if len(payload) < 2 * head:
        raise WireError(f"blocks of {count} pages announced, {len(payload)} bytes came")
    masks.frombytes(payload[:head])
    hashes.frombytes(payload[head : 2 * head])
    if max(masks, default=0) >> page_blocks():
        raise WireError("a block behind the end of its page")
    blocks = memory.count_blocks(masks)
    if len(payload) != 2 * head + blocks * pg.BLOCK_BYTES:
        raise WireError(f"{blocks} blocks announced, {len(payload) - 2 * head} bytes came")
    return masks, hashes, memoryview(payload)[2 * head :]


def without(wrong: array[int], index: array[int], data: effects.Buffer) -> tuple[array[int], bytes]:
    """``index`` and ``data`` without the pages that are ``wrong``."""
    left_out, view = set(wrong), memoryview(data)
    kept = [n for n, page in enumerate(index) if page not in left_out]
    return (array("I", (index[n] for n in kept)), b"".join(view[n * pg.PAGE_BYTES : (n + 1) * pg.PAGE_BYTES] for n in kept))


def asked_again(payload: bytes, patched: array[int]) -> array[int]:
    """The pages that a secondary asks for whole. Raises WireError unless each is one of ``patched``, named once."""
    out = array("I")
    if len(payload) % 4 or len(payload) > 4 * len(patched):
        raise WireError(f"{len(payload)} bytes of page numbers; only {len(patched)} pages were sent as blocks")
    out.frombytes(payload)
    if len(set(out)) != len(out) or not set(out) <= set(patched):
        raise WireError("pages asked for again that were not sent, or twice")
    return out
