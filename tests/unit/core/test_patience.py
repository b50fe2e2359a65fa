# SPDX-License-Identifier: GPL-3.0-or-later
"""How long output waits for the secondary's VM: as long as that VM usually takes, and never without limit."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from plover.core.patience import LAG_S_FIRST, LAG_S_MIN, PATIENCE, PATIENCE_S_MAX, Patience


def test_at_first_there_is_patience_for_a_slow_start_after_a_load():
    patience = Patience(0.005)
    patience.loaded(1.0)
    assert not patience.over(0.2, 1.0 + LAG_S_FIRST) and patience.over(0.2, 1.0 + PATIENCE_S_MAX + 0.001)


def test_the_time_of_the_load_is_no_lag():
    patience = Patience(0.05)
    patience.loaded(10.0)
    patience.agreed(since=9.0, now=10.04)
    assert patience.limit_s <= PATIENCE_S_MAX and not patience.over(9.0, 10.05)


def test_a_secondary_that_is_close_behind_is_soon_expected_to_be_so():
    patience = Patience(0.05)
    for n in range(300):
        patience.agreed(since=n / 50, now=n / 50 + 0.001)
    assert patience.limit_s == PATIENCE * LAG_S_MIN


def test_a_lag_is_remembered_until_the_next_load():
    """However many answers were quick since: else nothing was agreed on after any load."""
    patience = Patience(0.05)
    patience.agreed(since=0.0, now=0.04)
    for n in range(1000):
        patience.agreed(since=0.04 + n / 1000, now=0.041 + n / 1000)
    assert patience.limit_s > 0.035


def test_patience_that_ran_out_was_too_little():
    patience = Patience(0.05)
    for n in range(500):
        patience.agreed(since=n / 50, now=n / 50)
    before = patience.limit_s
    patience.ran_out()
    assert patience.limit_s == 2 * before


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 5), st.floats(0, 5))), st.integers(1, 10_000))
def test_patience_has_bounds(steps, target_ms):
    patience, now = Patience(target_ms / 1000), 0.0
    for agreed, held, later in steps:
        now += later
        patience.agreed(now - held, now) if agreed else patience.ran_out()
        assert LAG_S_MIN <= patience.limit_s <= max(PATIENCE_S_MAX, target_ms / 1000)
