# SPDX-License-Identifier: GPL-3.0-or-later
"""A syncvm below the page: of divergent pages only the blocks that differ are sent."""

from __future__ import annotations

import random
import struct
from array import array
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plover.errors import WireError
from plover.native import library, zstd
from plover.protocol import codec, wire
from plover.protocol import pages as pg
from plover.protocol.packing import unpack_blocks
from plover.syncvm import block_deltas as deltas
from plover.syncvm.leader import LeaderSyncvm
from plover.syncvm.phases import LeaderPhase, SecondaryPhase
from syncvm_pair import CONTENT, PAGES, STATE, diverge

from tests.examples import examples

BLOCKWISE = ["Divergent", "BlockHashes", "StageBlocks", "StageEnd", "Staged"]


def test_the_native_library_and_the_wire_mean_the_same_block_and_page():
    assert (library.BLOCK_BYTES, library.PAGE_BYTES) == (pg.BLOCK_BYTES, pg.PAGE_BYTES)


def test_of_many_divergent_pages_only_the_blocks_that_differ_are_sent(pair):
    diverge(pair, range(100, 200))
    pair.memories[0].write(7, 0, CONTENT[7 * 4096 : 7 * 4096 + 9])  # written, but the same
    figures = pair.syncvm().figures()
    assert pair.kinds() == BLOCKWISE and pair.equal and pair.loaded == b"device"
    assert (figures.dirty_pages, figures.divergent_pages) == (101, 100)
    assert 6400 < figures.sent["blocks"] < 100 * (16 + 64) and figures.sent["pages"] == 0  # random content
    assert figures.bytes == figures.sent["blocks"] + figures.sent["device"]
    assert figures.sent["hashes"] == 101 * 8 + 100 * 128 and 0 < figures.sent["bitmaps"] < 3 * 48 + 1


@pytest.mark.parametrize("pages", [0, 1, deltas.PAGES_MIN - 1])
def test_few_divergent_pages_are_sent_whole_without_the_second_round_trip(pair, pages):
    diverge(pair, range(pages))
    assert pair.syncvm().figures().bytes >= 4100 * pages
    assert pair.kinds() == ["StagePages"] * bool(pages) + ["StageEnd", "Staged"] and pair.equal


def test_more_pages_than_are_copied_or_hashed_in_one_message_are_sent_whole():
    assert not any(deltas.pay(n) for n in (0, deltas.PAGES_MIN - 1, deltas.PAGES_MAX + 1))
    assert deltas.pay(deltas.PAGES_MIN) and deltas.pay(deltas.PAGES_MAX)
    assert 2 * deltas.page_blocks() * deltas.PAGES_MAX < codec.BODY_BYTES_MAX


def test_pages_that_differ_everywhere_cost_hardly_more_than_whole_ones(pair):
    diverge(pair, range(100), random.Random(1).randbytes(4096), at=0)
    figures = pair.syncvm().figures()
    assert pair.equal and figures.sent["blocks"] < 1.001 * 100 * (4096 + 16)


def test_blocks_of_small_numbers_are_sent_in_a_fraction_of_their_size(pair):
    for page in range(200):
        pair.memories[0].write(page, 0, struct.pack("<8Q", *range(1, 9)))
    figures = pair.syncvm().figures()
    assert pair.equal and figures.sent["blocks"] < 0.25 * 200 * (64 + 16)


def test_the_leaders_vm_may_run_on_while_blocks_are_packed(pair, monkeypatch):
    diverge(pair)
    captured, packed = [], LeaderSyncvm.packed

    def look(self, payloads):
        captured.append(self.captured)
        return packed(self, payloads)

    monkeypatch.setattr(LeaderSyncvm, "packed", look)
    pair.syncvm()
    assert captured == [True] and pair.equal


def test_an_audit_sends_blocks_too(pair):
    diverge(pair, range(290))
    pair.memories[1].written.clear()
    sync = pair.syncvm(audit=1)
    assert "StageBlocks" in pair.kinds() and pair.equal and len(sync._untracked) == 290


WRITES = st.tuples(st.integers(0, 1), st.integers(0, 119), st.integers(0, 4000), st.binary(min_size=1, max_size=96))


@given(writes=st.lists(WRITES, max_size=150), bits=st.sampled_from([0, 1, 4, 16]), many=st.booleans(), device=st.binary(max_size=300))
@settings(max_examples=examples(40), deadline=None)
def test_whatever_both_sides_wrote_the_secondary_is_the_leader_afterwards(made, writes, bits, many, device):
    """Also with narrow hashes of blocks, of which many are equal though the blocks are not."""
    made.reset()
    for one in made.memories:
        one.block_bits = bits
    if many:
        diverge(made, range(70), random.Random(len(writes)).randbytes(100))
    for side, page, at, data in writes:
        made.memories[side].write(page, at, data)
    leader = made.memories[0].ram.map[:]
    made.syncvm(device)
    assert made.memories[0].ram.map[:] == leader and made.equal and made.loaded == device


def test_pages_whose_blocks_hashes_told_too_little_come_whole_and_nothing_is_applied_before(pair):
    """All hashes of blocks are equal: no block is sent, no page comes out right."""
    diverge(pair, range(1, 301))
    for one in pair.memories:
        one.block_bits = 0
    before, seen = pair.memories[1].ram.map[:], []

    def look(message):
        if not isinstance(message, wire.Staged):
            seen.append(pair.memories[1].ram.map[:] == before)
        if isinstance(message, wire.StageEnd):
            pair.memories[0].ram.map[:] = bytes(PAGES * pg.PAGE_BYTES)  # what it writes now is of the next syncvm
        return message

    pair.spoil = look
    figures = pair.syncvm().figures()
    assert pair.kinds() == [
        "Divergent",
        "BlockHashes",
        "StageBlocks",
        "StageBlocks",
        "StageEnd",
        "Resend",
        "StagePages",
        "StagePages",
        "StageEnd",
        "Staged",
    ]
    assert all(seen) and pair.memories[1].ram.map[:] == CONTENT and figures.sent["pages"] == 300 * 4100
    assert list(array("I", pair.heard[-5].payload)) == list(range(1, 301))


def test_one_page_that_came_out_wrong_is_sent_again_alone(pair):
    diverge(pair, range(100))
    good = pair.memories[0].block_masks
    pair.memories[0].block_masks = lambda index, theirs: array(
        "Q", (0 if page == 33 else mask for page, mask in zip(index, good(index, theirs)))
    )
    try:
        figures = pair.syncvm().figures()
    finally:
        del pair.memories[0].block_masks
    assert pair.equal and figures.sent["pages"] == 4100 and "Resend" in pair.kinds()


def test_the_device_state_comes_whole_only_if_it_must(pair):
    """Pages that are sent again do not make it travel whole."""
    pair.syncvm(STATE)
    diverge(pair)
    pair.memories[0].block_bits = pair.memories[1].block_bits = 0
    figures = pair.syncvm(STATE[:-1] + b"x").figures()
    assert "Resend" in pair.kinds() and figures.sent["device"] < 100 and pair.loaded == STATE[:-1] + b"x"


@pytest.mark.parametrize("at", [0, 8 * 100, 16 * 100, -1], ids=["mask", "hash", "block", "last-block"])
def test_a_bit_that_flips_on_the_way_is_found_before_anything_is_applied(pair, at):
    diverge(pair)
    before = pair.memories[1].ram.map[:]

    def flip(message):
        if not isinstance(message, wire.StageBlocks):
            return message
        payload = bytearray(unpack_blocks(zstd, message.payload, 1 << 20))
        payload[at] ^= 0x04
        return replace(message, payload=zstd.compress(payload))

    pair.spoil = flip
    with pytest.raises(WireError):
        pair.syncvm()
    assert pair.memories[1].ram.map[:] == before and pair.loaded is None


def spoilt(kind, **changes):
    """The first message of ``kind`` with other fields; a change may be a function of the payload."""

    def spoil(message):
        if not isinstance(message, kind):
            return message
        return replace(message, **{k: v(message.payload) if callable(v) else v for k, v in changes.items()})

    return spoil


def blocks_spoilt(change):
    """The blocks as they are before they are packed."""
    return spoilt(wire.StageBlocks, payload=lambda p: zstd.compress(change(unpack_blocks(zstd, p, 1 << 20))))


@pytest.mark.parametrize(
    "spoil, words",
    [
        (spoilt(wire.Divergent, payload=bytes(16)), "blocks of 0 pages asked for"),
        (spoilt(wire.Divergent, payload=lambda p: p[:-1]), "bitmap of 15 bytes for 100 pages"),
        (spoilt(wire.Divergent, payload=lambda p: p[:-1] + b"\x80"), "bits behind the last one"),
        (spoilt(wire.BlockHashes, payload=lambda p: p[:-1]), "12799 bytes of block hashes for 100 pages"),
        (spoilt(wire.StageBlocks, count=101), "blocks of 101 pages that were not asked for"),
        (blocks_spoilt(lambda p: p[:1599]), "blocks of 100 pages announced, 1599 bytes"),
        (blocks_spoilt(lambda p: p + bytes(64)), "100 blocks announced, 6464 bytes came"),
        (blocks_spoilt(lambda p: p[:-1]), "100 blocks announced, 6399 bytes came"),
        (blocks_spoilt(lambda p: bytes(100 * (16 + 4096) + 1)), "do not unpack to 411200"),
        (spoilt(wire.StageBlocks, payload=lambda p: p[:-1]), "blocks of pages: .* do not unpack"),
        (spoilt(wire.StageBlocks, payload=lambda p: p + b"x"), "blocks of pages: .* do not unpack"),
        (spoilt(wire.StageBlocks, payload=b"none"), "blocks of pages: .* no frame"),
        (spoilt(wire.StageEnd, pages=99), "99 pages announced, 100 staged"),
        (spoilt(wire.StageEnd, digest=1), "do not fit the leader's digest"),
        (spoilt(wire.StageEnd, base=1), "the parts asked for whole did not come"),
    ],
    ids=[
        "none",
        "short-bitmap",
        "behind",
        "short-hashes",
        "too-many",
        "short",
        "more-blocks",
        "cut",
        "too-long",
        "packed-cut",
        "packed-and-more",
        "not-packed",
        "pages",
        "digest",
        "base",
    ],
)
def test_malformed_messages_are_refused_and_nothing_is_applied(pair, spoil, words):
    diverge(pair)
    before = pair.memories[1].ram.map[:]
    pair.spoil = spoil
    with pytest.raises(WireError, match=words):
        pair.syncvm()
    assert pair.memories[1].ram.map[:] == before and pair.loaded is None


@pytest.mark.parametrize(
    "payload, words",
    [
        (b"123", "3 bytes of page numbers"),
        (array("I", [150]).tobytes(), "not sent"),
        (array("I", [1, 1]).tobytes(), "twice"),
        (array("I", range(101)).tobytes(), "only 100 pages were sent as blocks"),
    ],
    ids=["odd", "foreign", "twice", "many"],
)
def test_what_was_not_sent_is_not_sent_again(pair, payload, words):
    diverge(pair)
    pair.memories[0].block_bits = pair.memories[1].block_bits = 0
    pair.spoil = spoilt(wire.Resend, payload=payload)
    with pytest.raises(WireError, match=words):
        pair.syncvm()


def test_pages_that_came_whole_are_not_sent_again(pair):
    diverge(pair, range(3))
    pair.spoil = lambda m: wire.Resend(1, pair.number, False, array("I", [1]).tobytes()) if isinstance(m, wire.Staged) else m
    with pytest.raises(WireError, match="only 0 pages were sent as blocks"):
        pair.syncvm()


def test_only_once_is_anything_sent_again(pair):
    diverge(pair)
    pair.memories[0].block_bits = pair.memories[1].block_bits = 0
    pair.syncvm()
    leader, secondary = pair.sides
    leader._machine.phase, secondary._machine.phase = LeaderPhase.WAIT_STAGED, SecondaryPhase.STAGE
    with pytest.raises(WireError, match="asked to send again"):
        leader.on_resend(wire.Resend(1, pair.number, False))
    for late in (wire.StageBlocks(1, pair.number, 1, bytes(16)), wire.StagePages(1, pair.number, 1, bytes(4100))):
        with pytest.raises(WireError, match="not asked for|only 100 are dirty"):
            secondary.on_staging(late)
