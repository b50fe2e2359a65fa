# SPDX-License-Identifier: GPL-3.0-or-later
"""What a soak calls a leak: steady growth of one process, not noise, not a restart, not what a warm-up takes."""

from __future__ import annotations

import random

import pytest

from lab.soak import __main__ as soak
from lab.soak import judge, page
from lab.soak.judge import LIMITS, WARM_UP_S, Sample

GOOD = {"lost": [], "violations": [], "protected": True}


def series(value, figure="heap_kib", seconds=1800, every=3, pid=7, begin=0.0):
    return [Sample("primary plover-replica", pid, begin + at, {figure: value(at)}) for at in range(0, seconds, every)]


def noise(size):
    source = random.Random(1)
    return lambda at: 30_000 + source.uniform(-size, size)


def grows(samples):
    return judge.result(samples, [GOOD], 1800)["grows"]


def test_noise_peaks_and_the_warm_up_are_no_leak():
    assert grows(series(noise(3000))) == []
    assert grows(series(lambda at: 90_000 if at % 300 == 0 else 30_000)) == []
    assert grows(series(lambda at: 30_000 * min(1.0, at / WARM_UP_S))) == []
    assert grows(series(lambda at: 30_000 + 20_000 * (at > 400))) == []  # one step, e.g. a buffer that is needed for the first time


@pytest.mark.parametrize("when", [60, 120, 180])
def test_a_step_at_any_time_of_a_short_soak_is_no_leak(when):
    assert grows(series(lambda at: 50_000 + 4000 * (at >= when), seconds=240)) == []


def test_steps_again_and_again_are_a_leak():
    assert len(grows(series(lambda at: 50_000 + 1000 * (at // 20), seconds=240))) == 1


def test_steady_growth_is_a_leak_even_in_noise_and_names_who_and_what():
    steady = noise(3000)
    (line,) = grows(series(lambda at: steady(at) + 8 * at))
    assert line.startswith("primary plover-replica: heap_kib +") and "limit 4096" in line
    assert len(grows(series(lambda at: 40 + at // 120, "fds"))) == 1


def test_each_process_is_judged_by_itself():
    """Each begins small and grows for a while; together they look flat, or each step looks like growth."""
    flat = [sample for n in range(6) for sample in series(lambda at, n=n: 20_000 + 9000 * n, seconds=300, pid=n, begin=300.0 * n)]
    assert grows(flat) == []
    leaks = [sample for n in range(6) for sample in series(lambda at: 20_000 + 30 * at, seconds=300, pid=n, begin=300.0 * n)]
    assert len(grows(leaks)) == 1


def test_little_growth_in_a_short_soak_is_not_told_from_noise():
    assert grows(series(lambda at: 30_000 + 3 * at, seconds=240)) == []
    assert len(grows(series(lambda at: 30_000 + 3 * at, seconds=3600))) == 1


@pytest.mark.parametrize("spoil", [{"lost": ["a write"]}, {"violations": ["two voices"]}, {"protected": False}])
def test_a_lost_write_or_an_unprotected_end_fails_the_soak(spoil):
    samples = series(noise(100))
    assert judge.good(judge.result(samples, [GOOD], 1800))
    assert not judge.good(judge.result(samples, [GOOD, {**GOOD, **spoil}], 1800))
    assert not judge.good(judge.result([], [GOOD], 1800)), "nothing was measured"
    assert not judge.good(judge.result(samples, [], 1800)), "nothing was done"


def test_a_long_soak_is_judged_in_little_time():
    samples = series(noise(3000), seconds=8 * 3600)
    assert len(judge.thinned([(s.at, s.figures["heap_kib"]) for s in samples])) <= judge.POINTS_MAX
    assert grows(samples) == []


def test_the_page_has_a_plot_for_each_figure_and_a_line_for_each_process():
    samples = series(noise(100)) + series(noise(100), pid=8) + series(lambda at: 40, "fds")
    out = judge.result(samples, [GOOD], 1800)
    text = page.page(samples, [(60.0, "switchover/leader"), (90.0, "<b>")], judge.table(out))
    assert text.count("<svg") == 2 and text.count("<polyline") == 3 and "switchover/leader" in text and "<b>" not in text


def test_a_soak_has_switchovers_failovers_and_now_and_then_a_power_loss():
    cells = [soak.cell(number) for number in range(1, 25)]
    assert cells[0] == ("switchover", "leader") and {("kill-qemu", "leader"), ("isolate", "leader")} <= set(cells[:4])
    assert cells.count(soak.POWER_LOSS) == 2 and cells[11] == soak.POWER_LOSS
    assert all(limit.why for limit in LIMITS.values())
