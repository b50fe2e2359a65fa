# SPDX-License-Identifier: GPL-3.0-or-later
"""Each fault of the secondary's QEMU in a syncvm and in a promotion."""

from __future__ import annotations

import pytest
from cases import CASES, FILL, SECONDARY
from play import play


@pytest.mark.parametrize("case", [case for case in CASES if case.role == SECONDARY and case.trigger != FILL], ids=str)
def test_a_secondarys_qemu_that_fails_costs_the_protection_for_a_while(stage, case):
    play(stage, case)
