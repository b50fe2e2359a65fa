# SPDX-License-Identifier: GPL-3.0-or-later
"""`make bench-rdma`, very short, in two of the guests: each contender works; without a follower there is no result."""

from __future__ import annotations

import subprocess
from argparse import Namespace

import pytest

from bench import rdma as bench
from bench.load import BenchError
from lab.paths import ROOT

SHORT = Namespace(rounds=1, commits=30, mib=2)


@pytest.fixture(scope="module", autouse=True)
def build():
    subprocess.run(["make", "-s", "-C", str(ROOT / "native"), "bench-rdma"], check=True)


def test_a_short_run_has_all_figures(guests):
    found = bench.figures(bench.measure(guests["primary"], guests["secondary"], SHORT))
    assert all(found[key] > 0 for key in bench.RATIOS)
    assert set(found["rounds"][0]) == set(bench.TEXTS)


def test_a_follower_that_is_not_there_is_no_result(guests):
    work = bench.contenders(guests["primary"], guests["secondary"], SHORT)  # nobody serves
    with pytest.raises(BenchError, match="refused"):
        work[bench.COMMIT]()
