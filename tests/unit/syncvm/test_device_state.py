# SPDX-License-Identifier: GPL-3.0-or-later
"""The device state of a syncvm travels as what differs from the one before, and dirty bitmaps travel packed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plover.errors import WireError
from plover.native import zstd
from plover.protocol import packing, wire
from plover.protocol import pages as pg
from syncvm_pair import STATE


def test_of_the_device_state_what_differs_is_sent(pair):
    first = pair.syncvm(STATE).figures()
    assert first.sent["device"] >= 3000 and pair.loaded == STATE
    changed = STATE[:1000] + b"12345" + STATE[1005:]
    second = pair.syncvm(changed).figures()
    assert second.sent["device"] < 100 and pair.loaded == changed and pair.heard[-2].base
    longer = changed + b"more"
    assert pair.syncvm(longer).figures().sent["device"] >= 3000 and pair.loaded == longer and not pair.heard[-2].base


@pytest.mark.parametrize("held", [b"", b"x" * 3000, b"x"], ids=["none", "another", "shorter"])
def test_a_device_state_that_the_secondary_cannot_make_comes_whole(pair, held):
    """It forgot what the leader counts on, or took another that the leader gave up: never is it loaded over a wrong one."""
    pair.syncvm(STATE)
    pair.bases[1] = held
    changed = b"12345" + STATE[5:]
    pair.syncvm(changed)
    assert pair.kinds() == ["StageEnd", "Resend", "StageEnd", "Staged"] and pair.loaded == changed
    assert [bool(m.base) for m in pair.heard if isinstance(m, wire.StageEnd)] == [True, False]


@given(st.binary(max_size=400), st.binary(max_size=400))
def test_a_state_is_unpacked_as_it_was_packed(state, other):
    base = (other + bytes(len(state)))[: len(state)]
    for known in (b"", base):
        payload = packing.pack_state(zstd, state, known)
        assert packing.unpack_state(zstd, payload, len(state), known) == state
        for bad in (payload[:-1], payload + b"x", b"", b"nonsense"):
            with pytest.raises(WireError, match="device state"):
                packing.unpack_state(zstd, bad, len(state), known)
    for size in (len(state) + 1, packing.STATE_BYTES_MAX + 1):
        with pytest.raises(WireError, match="device state"):
            packing.unpack_state(zstd, payload, size, b"")


# --- bitmaps ---


@given(st.integers(1, 5000).flatmap(lambda bits: st.tuples(st.just(bits), st.sets(st.integers(0, bits - 1), max_size=300))))
def test_a_bitmap_is_unpacked_as_it_was_packed_and_never_longer_than_it_is(case):
    bits, numbers = case
    bitmap = sum(1 << n for n in numbers).to_bytes(pg.bitmap_bytes(bits), "little")
    payload = packing.pack_bitmap(zstd, bytearray(bitmap))
    assert packing.unpack_bitmap(zstd, payload, bits) == bitmap and len(payload) <= len(bitmap)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        bytes(7),
        bytes(9),
        zstd.compress(bytes(1016)),
        zstd.compress(bytes(1032)),
        zstd.compress(bytes(1024))[:-1],
        zstd.compress(bytes(1024)) + b"x",
        zstd.compress(bytes(1 << 26)),
    ],
    ids=["none", "short", "odd", "word-less", "word-more", "cut", "more", "bomb"],
)
def test_a_bitmap_that_does_not_unpack_to_its_length_is_refused(payload):
    with pytest.raises(WireError, match="dirty bitmap"):
        packing.unpack_bitmap(zstd, payload, 8192)
