# SPDX-License-Identifier: GPL-3.0-or-later
"""How long a member waits for another, as settings and Hellos say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plover.config.settings import SETTINGS, Config
from plover.config.timing import Timing, Timings
from settings import settings

from tests.sim.rig import protected

pytestmark = pytest.mark.usefixtures("small_pages")

BUDGETS_MS = st.integers(SETTINGS["failover_budget_ms"].low, SETTINGS["failover_budget_ms"].high)


def timing(budget_ms: int) -> Timing:
    return Timing.of(Config(settings("primary", failover_budget_ms=budget_ms)))


@given(BUDGETS_MS)
def test_with_equal_settings_or_an_older_member_we_wait_for_our_own_detection(budget_ms):
    ours = timing(budget_ms)
    timings = Timings(ours)
    assert timings.patience("primary") == timings.patience(None) == ours.detection
    timings.told("primary", ours)
    assert timings.patience("primary") == timings.shortest_detection == ours.detection


@given(BUDGETS_MS, BUDGETS_MS)
def test_no_setting_of_ours_is_less_patient_than_a_few_heartbeats_of_the_leader(ours_ms, theirs_ms):
    ours, theirs = timing(ours_ms), timing(theirs_ms)
    timings = Timings(ours)
    timings.told("primary", theirs)
    assert timings.patience("primary") == max(ours.detection, 3 * theirs.heartbeat)
    assert timings.patience("secondary") == ours.detection


def test_what_a_leader_relies_on_is_the_least_patient_member():
    timings = Timings(timing(2000))
    timings.told("witness", timing(500), stands=False)
    timings.told("secondary", timing(1000))
    assert timings.shortest_detection == timing(500).detection
    assert timings.standing_detection == timing(1000).detection, "a witness does not stand"
    timings.told("witness", timing(2000), stands=False)  # it was restarted
    assert timings.shortest_detection == timing(1000).detection


def test_what_a_settings_file_says_is_what_a_hello_tells():
    config = Config(settings("primary", failover_budget_ms=3000))
    assert Timing.told(config.values) == Timing.of(config) == (0.3, 0.06, 0.45)
    assert Timing.told({"member": "primary"}) is None


def test_a_leader_that_was_hung_does_not_rely_on_more_patience_than_the_others_have():
    group = protected()
    leading, now = group.serving().consensus, group.now
    hung_s = 0.05  # of the 0.08 that its own timing allows
    assert leading.fresh(now) and leading.fresh(now + hung_s)
    leading.timings.told("witness", Timing(0.04, 0.008))
    assert leading.fresh(now) and not leading.fresh(now + hung_s)
    assert leading.fresh_until(now) <= now + 0.2 * 0.04
