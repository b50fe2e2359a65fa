# SPDX-License-Identifier: GPL-3.0-or-later
"""libzstd behind its adapter: what was packed comes back, and nothing that is sent takes more memory than it may."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plover.errors import CompressionError
from plover.native import zstd


@given(st.binary(max_size=5000))
def test_what_was_packed_comes_back(data):
    assert zstd.decompress(zstd.compress(data), len(data)) == data


FRAME = zstd.compress(b"plover" * 100)
UNTOLD = bytes.fromhex("28b52ffd0058010000")  # an empty frame whose head tells no size (RFC 8878)
SKIPPABLE = bytes.fromhex("502a4d180100000000")


@pytest.mark.parametrize(
    "frame, why",
    [
        (b"", "tells its size"),
        (b"plover", "tells its size"),
        (UNTOLD, "tells its size"),
        (FRAME[:-1], "Src size"),
        (FRAME + b"x", "more than a frame"),
        (FRAME + SKIPPABLE, "more than a frame"),
        (zstd.compress(bytes(1 << 26)), "67108864 bytes, of at most 600"),
        (FRAME[:8] + b"\xff" + FRAME[9:], "."),
    ],
)
def test_what_is_no_frame_is_refused(frame, why):
    with pytest.raises(CompressionError, match=why):
        zstd.decompress(frame, 600)
