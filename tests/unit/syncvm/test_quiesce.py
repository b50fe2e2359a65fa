# SPDX-License-Identifier: GPL-3.0-or-later
"""A secondary waits for idleness as long as that pays."""

from __future__ import annotations

from collections import Counter

import pytest
from plover.syncvm.quiesce import PARTS, QuiesceLimit


def play(limit: QuiesceLimit, cost, count: int) -> Counter:
    """Which limits were taken how often; ``cost(limit_s)``."""
    taken = Counter()
    for _ in range(count):
        limit_s = limit.take()
        taken[limit_s] += 1
        limit.learn(cost(limit_s))
    return taken


def idle_after(idle_s: float, transfer_busy_s: float, transfer_idle_s: float):
    """A VM that is idle after so long: the transfer is shorter then."""
    return lambda limit_s: min(limit_s, idle_s) + (transfer_idle_s if limit_s >= idle_s else transfer_busy_s)


@pytest.mark.parametrize(
    "cost, best",
    [
        (idle_after(0.050, 0.010, 0.010), 0.0),  # never idle in time: the wait brings nothing
        (idle_after(0.001, 0.010, 0.002), 0.002),
        (idle_after(0.015, 0.040, 0.002), 0.020),
        (idle_after(0.015, 0.010, 0.002), 0.0),
    ],
)
def test_the_cheapest_limit_is_found_and_mostly_taken(cost, best):
    taken = play(QuiesceLimit(0.020), cost, 400)
    assert cost(taken.most_common(1)[0][0]) == cost(best)
    spent_s = sum(cost(limit_s) * count for limit_s, count in taken.items())
    assert spent_s < 1.1 * 400 * cost(best)  # what trying the others costs
    assert set(taken) == {part * 0.020 for part in PARTS}


def test_what_changes_is_noticed():
    limit = QuiesceLimit(0.020)
    play(limit, idle_after(0.050, 0.010, 0.010), 100)
    cost = idle_after(0.001, 0.010, 0.001)
    assert cost(play(limit, cost, 400).most_common(1)[0][0]) == cost(0.002)


def test_one_spoilt_figure_is_forgotten():
    """The first syncvm of the best limit met a busy moment."""
    limit, spoilt = QuiesceLimit(0.020), [0.5]
    cost = idle_after(0.050, 0.010, 0.010)
    play(limit, lambda limit_s: spoilt.pop() if spoilt and not limit_s else cost(limit_s), 250)
    assert play(limit, cost, 200).most_common(1)[0][0] == 0.0


def test_without_a_wait_there_is_nothing_to_choose():
    assert set(play(QuiesceLimit(0.0), lambda limit_s: 1.0, 50)) == {0.0}
