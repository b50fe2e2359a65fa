# SPDX-License-Identifier: GPL-3.0-or-later
"""What the status says of the guest's clock, against the clock of a real guest: Redis tells its time."""

from __future__ import annotations

import time

from harness import connect

TELL_TIME = "local t = redis.call('TIME') return t[1] * 1000000 + t[2]"
READINGS = 15
REST_S, LOAD_S = 30.0, 10.0
APART_MS = 50.0  # of each reading, on a busy machine; the sum over all syncvms must not be further off


def read(client, group, leader: str) -> tuple[float, float, float]:
    """(host's time in s, how far the guest's clock is behind it in ms, what the status says of that).

    The guest reads its clock a moment after it was asked; the answer may wait for a syncvm. So the request that got there soonest counts.
    """
    found = []
    for _reading in range(READINGS):
        asked = time.monotonic()
        told_us = int(client.ask("EVAL", TELL_TIME, "0")[1:])
        found.append((asked - told_us / 1e6, asked))
        time.sleep(0.02)
    lag_s, at = max(found)
    return at, 1000 * lag_s, group.status(leader)["clock_lag_ms"]


def during(client, group, leader: str, what: str, work) -> None:
    """The status tells truly how far the guest falls behind during ``work``."""
    before = read(client, group, leader)
    work()
    after = read(client, group, leader)
    seconds, lag_ms, told_ms = (b - a for a, b in zip(before, after))
    print(f"{what}: {lag_ms:.1f} ms behind in {seconds:.0f} s, {lag_ms / seconds / 10:.3f} %; the status says {told_ms:.1f} ms")
    assert abs(lag_ms - told_ms) < APART_MS


def test_the_status_tells_how_far_the_guests_clock_falls_behind_and_an_idle_vm_is_stopped_seldom(new_group):
    group = new_group()
    group.start()
    leader, client = "primary", connect()
    group.wait(leader, service="protected")

    def load() -> None:
        end = time.monotonic() + LOAD_S
        while time.monotonic() < end:
            client.ask("SET", "k", "v")

    counts: list[int] = []

    def rest() -> None:
        counts.append(group.status(leader)["totals"]["syncvms"])
        time.sleep(REST_S)
        counts.append(group.status(leader)["totals"]["syncvms"])

    during(client, group, leader, "under load", load)
    during(client, group, leader, "idle", rest)
    assert group.status(leader)["role"] == "leader", group.story()
    print(f"{counts[1] - counts[0]} syncvms while it was idle")
    assert counts[1] - counts[0] < 0.75 * REST_S  # syncvm_interval_ms_max is a second; the guest's IPv6 speaks up now and then
