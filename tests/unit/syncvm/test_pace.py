# SPDX-License-Identifier: GPL-3.0-or-later
"""When held output makes a syncvm due."""

from __future__ import annotations

import pytest
from plover.syncvm.pace import Pace


def pace(target_s: float, cost_s: float) -> Pace:
    out = Pace(target_s)
    for _ in range(100):
        out.learn(cost_s)
    return out


def test_an_idle_vm_never_waits_for_a_timer():
    assert pace(10.0, 5.0).due(0.0, idle=True)


def test_without_output_nothing_is_due():
    assert not pace(0.02, 0.005).due(None, idle=True) and not pace(0.02, 0.005).due(None, idle=False)


@pytest.mark.parametrize(
    "target_s, cost_s, hold_s",
    [
        (0.020, 0.005, 0.015),  # the output leaves just in time
        (0.020, 0.012, 0.012),  # the VM runs for as long as a syncvm costs
        (0.020, 0.500, 0.020),
    ],
)  # but output does not wait longer than that
def test_a_busy_vm_is_stopped_for_the_target(target_s, cost_s, hold_s):
    found = pace(target_s, cost_s)
    assert found.hold_s == pytest.approx(hold_s)
    assert not found.due(0.99 * hold_s, idle=False) and found.due(1.01 * hold_s, idle=False)


def test_before_the_first_syncvm_the_target_holds():
    assert Pace(0.02).hold_s == 0.02
