# SPDX-License-Identifier: GPL-3.0-or-later
"""What a replica counts: syncvms, how long the VM stood still, how long output waits, why views began."""

from __future__ import annotations

import pytest
from plover.core.counters import BOUNDS_S, Counters, Histogram
from plover.core.guard import Guard
from plover.syncvm.figures import Figures

from tests.sim.rig import protected

pytestmark = pytest.mark.usefixtures("small_pages")


def test_a_histogram_counts_each_value_once_at_its_bound():
    found = Histogram()
    for seconds in (0.0, 0.001, 0.0011, 5.0, 5.1, 1000.0):
        found.add(seconds)
    counts = dict(zip([*BOUNDS_S, None], found.describe()["counts"]))
    assert {bound: count for bound, count in counts.items() if count} == {0.001: 2, 0.002: 1, 5.0: 1, None: 2}
    assert found.describe()["sum_s"] == pytest.approx(1010.1021)


def test_syncvms_add_up():
    counters = Counters()
    counters.syncvm(Figures(1, 3.0, 10, 4, 500, sent={"pages": 400, "hashes": 80}), 100.0)
    counters.syncvm(Figures(2, 30.0, 20, 1, 50, sent={"pages": 40}), 100.3)
    assert counters.totals == {"syncvms": 2, "dirty_pages": 30, "divergent_pages": 5, "bytes": 550}
    told = counters.describe(101.0)
    assert told["sent_bytes"] == {"pages": 440, "hashes": 80} and told["last_syncvm_age_s"] == 0.7
    assert sum(told["pause"]["counts"]) == 2 and told["pause"]["sum_s"] == 0.033
    assert sum(told["cycle"]["counts"]) == 1 and told["cycle"]["sum_s"] == 0.3


def test_the_time_that_the_vm_stands_still_is_counted_once_and_only_while_it_can_run_on():
    counters = Counters()
    assert counters.describe(0.0)["stopped_s"] == 0.0
    counters.vm_stops(1.0)
    counters.vm_stops(2.0)
    assert counters.describe(3.0)["stopped_s"] == 2.0
    counters.vm_runs(4.0)
    counters.vm_runs(9.0)
    assert counters.describe(10.0)["stopped_s"] == 3.0
    counters.vm_stops(11.0)
    counters.vm_gone()
    assert counters.describe(20.0)["stopped_s"] == 3.0


def test_the_guard_knows_since_when_its_oldest_output_waits():
    guard = Guard(1000)
    assert guard.held_since is None
    guard.hold(b"a", 1.0)
    first = guard.mark()
    guard.mark()  # of nothing
    guard.hold(b"b", 2.0)
    guard.hold(b"c", 3.0)
    assert guard.held_since == 1.0
    guard.release(first)
    assert guard.held_since == 2.0
    guard.mark()
    guard.unmark()
    assert guard.held_since == 2.0
    guard.discard()
    assert guard.held_since is None


def test_the_status_tells_it_all():
    group = protected()
    group.until(lambda: group["primary"].core.totals["syncvms"] > 1, 10.0)
    told = group["primary"].status()
    assert told["totals"]["syncvms"] == sum(told["counters"]["pause"]["counts"]) > 0
    assert 0 < told["counters"]["stopped_s"] < group.now and told["counters"]["last_syncvm_age_s"] == 0.0
    assert told["views"] == {"first boot": 1} and told["fill"] is None and told["held"] == {"bytes": 0, "age_s": 0.0}
    assert told["log_bytes"] >= 0
    group.kill("primary")
    group.until(lambda: group["secondary"].core.leading is not None)
    assert group["secondary"].status()["views"] == {"found leading": 1, "failover": 1}
