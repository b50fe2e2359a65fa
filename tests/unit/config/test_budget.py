# SPDX-License-Identifier: GPL-3.0-or-later
"""The budget: what is derived, what is given, and what does not fit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plover.config import __main__ as checker
from plover.config.budget import DERIVED, MS_MAX, PROMOTION_MS_MIN, problems, split
from plover.config.settings import SETTINGS, Config
from plover.errors import ConfigError
from settings import settings as good_settings

LOW, HIGH = SETTINGS["failover_budget_ms"].low, SETTINGS["failover_budget_ms"].high


def refused(**changes):
    with pytest.raises(ConfigError) as error:
        Config(good_settings("primary", **changes))
    return str(error.value)


def test_the_defaults_are_the_issues():
    """Detection at 100 ms, a second in all (issue: p99 <= 1 s)."""
    config = Config(good_settings("primary"))
    assert (config.detection_ms, config.heartbeat_ms, config.election_ms, config.peer_timeout_ms, config.syncvm_timeout_ms) == (
        100,
        20,
        150,
        400,
        3000,
    )
    assert config.budget == (100, 150, 0, 750, 1000)
    assert str(config.budget) == "failover 1000 ms = detection 100 + election 150 + fencing 0 + promotion 750"


@given(st.integers(LOW, HIGH))
def test_every_budget_alone_gives_settings_that_go_together(budget_ms):
    config = Config(good_settings("primary", failover_budget_ms=budget_ms))
    parts = config.budget
    assert sum(parts[:4]) == parts.failover_ms == budget_ms and parts.promotion_ms >= PROMOTION_MS_MIN
    for key in DERIVED:
        row = SETTINGS[key]
        assert row.low <= getattr(config, key) <= row.high and row.high == MS_MAX[key], key


@given(st.integers(LOW, HIGH), st.dictionaries(st.sampled_from(sorted(DERIVED)), st.integers(1, 100_000)))
def test_what_is_accepted_keeps_every_rule(budget_ms, given_ms):
    """Whatever is given explicitly: it is refused, or kept as it is and all rules hold."""
    try:
        config = Config(good_settings("primary", failover_budget_ms=budget_ms, **given_ms))
    except ConfigError as error:
        assert all(line.split(":")[0] in SETTINGS for line in str(error).splitlines())
        return
    assert all(getattr(config, key) == value for key, value in given_ms.items())
    assert config.detection_ms + config.election_ms + PROMOTION_MS_MIN <= config.failover_budget_ms
    assert 3 * config.heartbeat_ms <= config.detection_ms <= config.peer_timeout_ms
    assert config.peer_timeout_ms <= min(config.syncvm_timeout_ms, config.join_timeout_ms)
    assert problems(config.values) == [] and sum(split(config.values)[:4]) == budget_ms


def test_what_does_not_fit_is_refused_with_the_sum_and_a_remedy_that_works():
    text = refused(detection_ms=401)
    assert text == (
        "failover_budget_ms: 1000 is too short: detection_ms 401 + election_ms 601 + fence_timeout_ms 0 "
        "+ promotion at least 200 = 1202; raise failover_budget_ms to 1202, or shorten one of its parts"
    )
    assert Config(good_settings("primary", detection_ms=401, failover_budget_ms=1202)).budget.promotion_ms == 200


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"syncvm_timeout_ms": 399}, "syncvm_timeout_ms: 399 must not be shorter than peer_timeout_ms (400), or a syncvm"),
        ({"syncvm_drain_ms_max": 3001}, "syncvm_timeout_ms: 3000 must not be shorter than syncvm_drain_ms_max (3001)"),
        ({"join_timeout_ms": 1000, "peer_timeout_ms": 1001}, "join_timeout_ms: 1000 must not be shorter than peer_timeout_ms"),
        ({"heartbeat_ms": 34}, "detection_ms: 100 must be at least 3 x heartbeat_ms (34); raise detection_ms or shorten"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_contradictions_are_refused_with_both_values(changes, words):
    assert refused(**changes).startswith(words)


def test_a_longer_budget_makes_everything_longer():
    config = Config(good_settings("primary", failover_budget_ms=5000))
    assert (config.detection_ms, config.heartbeat_ms, config.election_ms, config.peer_timeout_ms, config.syncvm_timeout_ms) == (
        500,
        100,
        750,
        2000,
        15_000,
    )


def test_the_help_says_how_each_is_derived_and_what_comes_out(capsys):
    assert checker.main(["--help"]) == 0
    out = capsys.readouterr().out
    assert "(default a tenth of failover_budget_ms = 100)" in out and "(default 4 x detection_ms = 400)" in out
    assert out.endswith("failover 1000 ms = detection 100 + election 150 + fencing 0 + promotion 750.\n")
