# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a demo has shown the death of a leader: real histories of runs that did, and of two that did not."""

from __future__ import annotations

import pytest

from lab.leader_lost import problem, seconds_of

LOST_AT = seconds_of("2026-12-01T00:10:09.350Z")


def view(at, leader="secondary", cause="failover", why="primary was silent for 140 ms (detection_ms is 100)"):
    return {"kind": "view", "at": f"2026-12-01T{at}Z", "view": 10, "leader": leader, "cause": cause, "why": why}


MODE = {"kind": "mode", "at": "2026-12-01T00:10:10.000Z", "mode": "degraded", "why": "failover in view 10"}


@pytest.mark.parametrize("at, silent", [("00:10:09.480", 140), ("00:10:09.800", 532), ("00:10:09.450", 115)])
def test_a_leader_that_was_silent_from_its_power_loss_on_has_died(at, silent):
    assert problem([view(at, why=f"primary was silent for {silent} ms (detection_ms is 100)"), MODE], "secondary", LOST_AT) == ""


@pytest.mark.parametrize(
    "entries, why",
    [
        ([], "no view"),
        ([view("00:10:00.000", "primary", "switchover", "asked for by the operator")], "has not taken over"),
        ([view("00:09:02.000")], "s before the power loss"),  # the machine was busy a minute ago, and the host that lost power followed
        ([view("00:10:09.697", why="primary was silent for 532 ms (detection_ms is 100)")], "0.085 s before the power loss"),
        ([view("00:10:09.900", cause="re-elected", why="this host kept the VM")], "has not taken over"),
    ],
)
def test_an_election_that_began_before_is_told(entries, why):
    assert why in problem([*entries, MODE], "secondary", LOST_AT)
