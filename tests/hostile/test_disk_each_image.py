# SPDX-License-Identifier: GPL-3.0-or-later
"""The quick part of the disk faults: a write of the leader's image and a flush of the secondary's."""

from __future__ import annotations

import pytest
from disk_cases import SAMPLE
from disk_play import play


@pytest.mark.parametrize("case", SAMPLE, ids=str)
def test_a_disk_that_fails_once_costs_nothing_that_was_answered(disk_stage, case):
    play(disk_stage, case)
