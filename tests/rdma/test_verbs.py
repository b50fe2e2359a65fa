# SPDX-License-Identifier: GPL-3.0-or-later
"""Real verbs, in a guest: what pyverbs alone does, and what our library does."""
from __future__ import annotations

import json

RESET, RTS, ERR = 0, 3, 6
REM_ACCESS, FLUSHED = 10, 5


def test_a_queue_pairs_life(inside):
    seen = json.loads(inside("primary", "lifecycle.py"))
    assert seen["states"] == [RESET, RTS, ERR, RESET]
    assert seen["write"] == 0 and seen["landed"] == "as the leader wrote it"
    assert seen["bad_rkey"] == REM_ACCESS and seen["after_error"] == FLUSHED


def test_a_ring_and_what_must_not_land_in_it(inside):
    seen = json.loads(inside("primary", "rings.py"))
    assert seen["in_order"] and seen["rounds"] >= 3
    assert seen["read"] == "counters"
    assert seen["late_write"] == "transport retry counter exceeded" and not seen["landed_late"], seen
    assert seen["states"] == [ERR, RESET]
    assert seen["bad_rkey"] == "remote access error" and not seen["landed_wrong"]
    assert "is our address" in seen["why"]
