# SPDX-License-Identifier: GPL-3.0-or-later
"""Released output leaves whole and in order, whatever comes back too late."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plover.core.outbox import SLICE_BYTES, Outbox
from plover.errors import InvariantViolation


@given(st.lists(st.tuples(st.lists(st.integers(1, SLICE_BYTES), max_size=4), st.integers(0, 5), st.integers(0, 9)), max_size=30))
def test_everything_leaves_once_and_in_order(turns):
    """Each turn puts some chunks, and sends a slice of which the last ``late`` chunks come back, the first of them in part."""
    box, put, left = Outbox(), b"", b""
    for sizes, late, cut in [*turns, *[([], 0, 0)] * 200]:
        chunks = [bytes([len(put) % 251]) * size for size in sizes]
        box.put(chunks)
        put += b"".join(chunks)
        if box.waits:
            number, out = box.slice()
            rest = out[len(out) - min(late, len(out)) :]
            gone = b"".join(out[: len(out) - len(rest)])
            if rest and len(rest[0]) > cut:
                gone, rest[0] = gone + rest[0][:cut], rest[0][cut:]
            assert len(b"".join(out)) < 2 * SLICE_BYTES and not box.waits
            box.left(number, rest)
            left += gone
        assert box.bytes == len(put) - len(left)
    assert left == put and not box.waits


def test_one_slice_leaves_at_a_time_and_only_its_own_answer_counts():
    box = Outbox()
    box.put([b"a" * SLICE_BYTES, b"b"])
    number, out = box.slice()
    assert out == [b"a" * SLICE_BYTES] and not box.waits
    with pytest.raises(InvariantViolation):
        box.slice()
    box.left(number - 1, [])
    assert box.bytes == SLICE_BYTES + 1
    with pytest.raises(InvariantViolation, match="came back"):
        box.left(number, [b"a" * SLICE_BYTES, b"more"])
    box.left(number, [])
    box.left(number, [])
    assert box.slice() == (number + 1, [b"b"])
