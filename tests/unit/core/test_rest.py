# SPDX-License-Identifier: GPL-3.0-or-later
"""A VM that does nothing is stopped less and less often; one that does anything, as often as the settings say."""

from __future__ import annotations

import pytest
from plover.config.settings import Config
from plover.core.rest import QUIET_PAGES_MAX, Rest
from plover.syncvm.figures import Figures
from settings import settings

from tests.sim.rig import protected

SMALL, HUGE = 65_536, 4 << 18  # pages: 256 MiB and 4 GiB


def rest(pages: int = SMALL, **changes) -> Rest:
    return Rest(Config(settings("primary", **changes)), pages)


def figures(dirty_pages: int = 10, audit: bool = False) -> Figures:
    return Figures(1, 1.0, dirty_pages, 0, 0, audit=audit)


def after(made: Rest, times: int, **kind) -> float:
    """The interval after so many syncvms, each as late as it may be."""
    now = 100.0
    made.learn(figures(), now)
    for _ in range(times):
        now += made.interval_s(0)
        made.learn(figures(**kind), now)
    return made.interval_s(0)


def test_it_doubles_up_to_the_setting():
    assert [after(rest(), times) for times in range(6)] == [1, 2, 4, 8, 10, 10]
    assert after(rest(syncvm_idle_interval_ms_max=3000), 9) == 3


def test_input_makes_the_next_one_due_as_ever():
    made = rest()
    assert after(made, 9) == 10 and made.interval_s(1) == 1


@pytest.mark.parametrize("kind", [{"dirty_pages": QUIET_PAGES_MAX + 1}, {"audit": True}], ids=["writes", "audit"])
def test_a_busy_vm_begins_again(kind):
    made = rest()
    after(made, 9)
    made.learn(figures(**kind), 1000.0)
    assert made.interval_s(0) == 1


def test_a_syncvm_that_was_due_earlier_shows_that_it_is_not_idle():
    made = rest()
    made.learn(figures(), 0.0)
    made.learn(figures(), 1.0)
    made.learn(figures(), 2.5)  # output was held
    assert made.interval_s(0) == 1


def test_the_scrub_is_done_in_its_time():
    assert after(rest(HUGE), 9) == pytest.approx(300 * 4096 / HUGE)
    assert after(rest(HUGE, scrub_interval_s=0), 9) == 10
    assert after(rest(HUGE, scrub_interval_s=10), 9) == 1


def test_checkpoints_and_a_long_interval_stay_as_they_are():
    assert after(rest(syncvm_mode="checkpoint", syncvm_interval_ms_max=25), 9) == 0.025
    assert after(rest(syncvm_interval_ms_max=20_000), 9) == 20


@pytest.mark.usefixtures("small_pages")
def test_a_group_whose_vm_is_idle_rests_and_wakes_up():
    group = protected(syncvm_interval_ms_max=50, syncvm_idle_interval_ms_max=400, scrub_interval_s=0)
    core = group["primary"].core
    group.run(3.0)
    before = core.totals["syncvms"]
    group.run(2.0)
    assert 4 <= core.totals["syncvms"] - before <= 6
    group["primary"].member.client_frame(group.frame(7))
    group.until(lambda: core.totals["syncvms"] - before > 6 and group["secondary"].has(7))
