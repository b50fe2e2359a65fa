# SPDX-License-Identifier: GPL-3.0-or-later
"""EIO and ENOSPC at the n-th write or flush of each image; and a table in which nothing is left out."""

from __future__ import annotations

import itertools

import pytest
from disk_cases import CASES
from disk_play import play


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_disk_that_fails_costs_nothing_that_was_answered(disk_stage, case):
    play(disk_stage, case)


def test_each_pair_of_the_tables_columns_is_there():
    for one, two in itertools.combinations(range(len(CASES[0])), 2):
        values = [{case[column] for case in CASES} for column in (one, two)]
        assert {(case[one], case[two]) for case in CASES} == set(itertools.product(*values)), (one, two)
