# SPDX-License-Identifier: GPL-3.0-or-later
"""Each fault of either QEMU while a secondary is filled."""

from __future__ import annotations

import pytest
from cases import CASES, FILL
from play import play


@pytest.mark.parametrize("case", [case for case in CASES if case.trigger == FILL], ids=str)
def test_a_fill_that_fails_is_begun_again(stage, case):
    play(stage, case)
