# SPDX-License-Identifier: GPL-3.0-or-later
"""The simulator itself: a seed is one run, to the letter; and it finds what was broken on purpose."""
from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests.sim import ROOT
from tests.sim.mutants import MUTANTS
from tests.sim.run import run

SEEDS = (5, 8, 16)  # of 8 and 16 every message goes through its bytes
QUICK = {"release-before-ack":
         r"answered operation \d+ of connection \d+, but (primary|secondary) could be elected without it",
         "secondary-speaks": "two voices in view 1", "peer-bitmap-ignored": "device state of frame .* loaded over memory"}
QUICK_SEEDS = 40
PRINT_TRACES = """
from tests.sim.run import run
for seed in %r:
    trace = []
    print(run(seed, trace), *trace, sep="\\n")
"""


def output_of(*arguments: str, hash_seed: str = "0") -> tuple[str, int]:
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": hash_seed},
                          capture_output=True, text=True, timeout=300)
    assert not done.stderr, done.stderr
    return done.stdout, done.returncode


@pytest.mark.parametrize("seed", SEEDS)
def test_a_seed_is_the_same_run_again(seed):
    traces: list[list[str]] = [[], []]
    results = [run(seed, trace) for trace in traces]
    assert results[0] == results[1] and traces[0] == traces[1] and len(traces[0]) > 300
    assert run(seed) == results[0]  # looking on changes nothing


def test_a_seed_is_the_same_run_in_another_process():
    """Python orders its sets by hashes that differ in each process."""
    outputs = [output_of("-c", PRINT_TRACES % (SEEDS,), hash_seed=seed) for seed in ("1", "3", "4711")]
    assert outputs[0][0].count("\n") > 1000
    for got in outputs[1:]:
        assert got == outputs[0]


def test_seeds_differ():
    assert len({run(seed).steps for seed in SEEDS}) == len(SEEDS)


def test_there_are_many_ways_to_break_it():
    assert len(MUTANTS) >= 12 and len({text for text, _ in MUTANTS.values()}) == len(MUTANTS)
    assert set(QUICK) <= set(MUTANTS)


def test_what_is_broken_on_purpose_is_caught_for_the_right_reason():
    """In processes of its own, so that nothing stays broken here. `make sim-mutants` tries all, with more seeds."""
    text, status = output_of("-m", "tests.sim.mutants", *QUICK, "--seeds", str(QUICK_SEEDS))
    assert status == 0, text
    caught = dict(re.findall(r"^(\S+) +seed \d+ +(.*)$", text, re.MULTILINE))
    assert caught.keys() == QUICK.keys()
    for name, why in QUICK.items():
        assert re.search(why, caught[name]), f"{name}: {caught[name]}"


def test_what_is_not_broken_passes_the_same_seeds():
    for seed in range(QUICK_SEEDS):
        result = run(seed)
        assert result.violation is None, f"seed {seed}: {result.violation}"
