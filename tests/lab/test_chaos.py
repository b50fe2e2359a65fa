# SPDX-License-Identifier: GPL-3.0-or-later
"""`make chaos`, trimmed: the most telling faults once each, on hosts that are brought up once. All of it: make chaos."""
from __future__ import annotations

import pytest

from lab.chaos import result, runner
from lab.hosts import down

CELLS = [("power-loss", "leader"), ("freeze", "leader"), ("stop-daemon", "leader"), ("kill-daemon", "leader"),
         ("kill-qemu", "leader"), ("mute", "leader"), ("isolate", "secondary"), ("disk-full", "leader"),
         ("power-loss", "witness"), ("two-at-once", "secondary")]
OUTAGE_MS_MAX = 20_000  # two-at-once stops the service until hosts are back; far above what any of them takes


@pytest.fixture(scope="module")
def rounds():
    try:
        yield list(runner.play(len(CELLS), 1, CELLS))
    finally:
        assert down() == []


@pytest.mark.parametrize("cell", CELLS, ids="/".join)
def test_a_real_fault_loses_nothing_lets_one_speak_and_ends_protected(rounds, cell):
    [done] = [r for r in rounds if (r.fault, r.role) == cell]
    assert (done.lost, done.violations, done.protected) == ([], [], True), done.details
    assert done.details["acked"] > 100 and sum(done.details["frames"].values()) > 100
    assert done.details["audit"] == {"mismatching": 0, "untracked": 0, "pages": 65_536}
    assert 0 < done.outage_ms < OUTAGE_MS_MAX


def test_a_dead_leader_was_followed_by_another_and_both_were_heard_on_the_wire(rounds):
    [done] = [r for r in rounds if (r.fault, r.role) == ("power-loss", "leader")]
    assert set(done.details["frames"]) == {"primary", "secondary"}
    assert [host for _, host in done.details["views"]] != []


def test_the_result_counts_every_round_once(rounds):
    out = result.summary(rounds)
    assert (out["rounds"], out["lost"], out["violations"], out["unprotected_at_end"]) == (len(CELLS), 0, 0, 0)
    assert set(out["faults"]) == {"/".join(cell) for cell in CELLS}
