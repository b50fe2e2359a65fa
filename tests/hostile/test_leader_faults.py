# SPDX-License-Identifier: GPL-3.0-or-later
"""Each fault of the leader's QEMU in a syncvm, a stop, or in what its VM sends."""

from __future__ import annotations

import pytest
from cases import CASES, LEADER, TRAFFIC
from play import play


@pytest.mark.parametrize("case", [case for case in CASES if (case.role, case.trigger) == (LEADER, TRAFFIC)], ids=str)
def test_a_leaders_qemu_that_fails_in_a_syncvm_costs_nothing_that_was_answered(stage, case):
    play(stage, case)
