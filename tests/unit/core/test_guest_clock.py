# SPDX-License-Identifier: GPL-3.0-or-later
"""The guest's clock, as device states tell it. That they tell it truly: integration/test_guest_clock.py."""

from __future__ import annotations

import struct

import pytest
from plover.core.guest_clock import SAMPLES_MAX, SECTION, GuestClock, virtual_ns


def state(seconds: float, before: bytes = b"\x04\0\0\0\1") -> bytes:
    return before + SECTION + struct.pack("!qqq", -5, 0, round(seconds * 1e9)) + b"\x7e\0\0\0\1 and more"


def test_the_clock_is_found_in_the_section_of_the_timers():
    assert virtual_ns(state(12.5)) == 12_500_000_000
    assert virtual_ns(memoryview(state(0.0))) == 0


@pytest.mark.parametrize("bad", [b"", SECTION, state(1.0)[: 5 + len(SECTION) + 23], b"\x05timer" + bytes(8) + bytes(24)])
def test_a_state_of_another_format_tells_nothing(bad):
    assert virtual_ns(bad) is None
    clock = GuestClock()
    clock.read(1.0, bad)
    assert clock.describe() == {"clock_lag_ms": 0.0, "clock_lag_percent": 0.0}


def run(clock: GuestClock, begin: float, end: float, every_s: float, guest_s: float, speed: float) -> float:
    """Readings of a guest whose clock stands at ``guest_s`` at ``begin``; its clock at the end."""
    count = round((end - begin) / every_s)
    for n in range(count + 1):
        clock.read(begin + n * every_s, state(guest_s + n * every_s * speed))
    return guest_s + count * every_s * speed


@pytest.mark.parametrize("every_s", [0.02, 0.1, 1.0, 10.0])
def test_the_lag_is_the_sum_and_the_rate_that_of_the_last_minute(every_s):
    clock = GuestClock()
    guest_s = run(clock, 1000.0, 1100.0, every_s, 7.0, 0.5)
    assert clock.lag_s == pytest.approx(50.0) and clock.lag_percent == pytest.approx(50.0)
    run(clock, 1100.0, 1200.0, every_s, guest_s, 0.99)
    assert clock.lag_s == pytest.approx(51.0) and clock.lag_percent == pytest.approx(1.0, rel=0.01)
    assert len(clock._samples) <= SAMPLES_MAX


def test_errors_of_readings_do_not_add_up():
    clock = GuestClock()
    for n in range(10_000):
        clock.read(n + (n % 3) * 0.004, state(float(n)))
    assert abs(clock.lag_s) < 0.009


def test_a_vm_that_is_booted_afresh_begins_anew():
    clock = GuestClock()
    run(clock, 0.0, 100.0, 1.0, 0.0, 0.5)
    clock.read(101.0, state(0.5))
    assert clock.describe() == {"clock_lag_ms": 0.0, "clock_lag_percent": 0.0}


def test_a_failover_counts_as_the_time_that_the_guest_lost():
    """The secondary has read along; its VM goes on from the last syncvm, and is told 0.3 s later that it leads."""
    clock = GuestClock()
    guest_s = run(clock, 0.0, 10.0, 1.0, 0.0, 1.0)
    clock.read(12.0, state(guest_s + 1.7))
    assert clock.describe()["clock_lag_ms"] == pytest.approx(300.0)
