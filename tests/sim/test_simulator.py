# SPDX-License-Identifier: GPL-3.0-or-later
"""The simulator itself: a seed is one run, to the letter; and it finds what was broken on purpose."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from functools import cache

import pytest
from plover.ports import effects

from tests.sim import ROOT
from tests.sim.mutants import MUTANTS
from tests.sim.run import Result, run
from tests.sim.watch import DOES, Watched

SEEDS = (5, 8, 48)  # of 8 and 48 every message goes through its bytes
QUICK = {
    "release-before-ack": r"answered operation \d+ of connection \d+, but (primary|secondary) could be elected without it",
    "secondary-speaks": "two voices in view 1",
    "peer-bitmap-ignored": "device state of frame .* loaded over memory",
}
QUICK_SEEDS = 40
PRINT_TRACES = """
from tests.sim.test_simulator import SEEDS, traced
for seed in SEEDS:
    print(*traced(seed), sep="\\n")
"""


@cache
def traced(seed: int) -> tuple[Result | str, ...]:
    """Its result, then its trace."""
    trace: list[str] = []
    return run(seed, trace), *trace


def output_of(*arguments: str, hash_seed: str = "0") -> tuple[str, int]:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": hash_seed}, capture_output=True, text=True, timeout=300
    )
    assert not done.stderr, done.stderr
    return done.stdout, done.returncode


@pytest.mark.parametrize("seed", SEEDS)
def test_a_seed_is_the_same_run_again(seed):
    result, *trace = traced(seed)
    assert len(trace) > 300
    assert run(seed) == result  # looking on changes nothing


def test_a_seed_is_the_same_run_in_another_process():
    """Python orders its sets by hashes that differ in each process."""
    here = "".join(f"{line}\n" for seed in SEEDS for line in traced(seed))
    for hash_seed in ("1", "4711"):
        assert output_of("-c", PRINT_TRACES, hash_seed=hash_seed) == (here, 0)


def test_seeds_differ():
    assert len({traced(seed)[0].steps for seed in SEEDS}) == len(SEEDS)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_replica_hears_from_its_shell_when_clients_reach_its_vm(seed):
    """So the event log has the outage of each failover, as the daemon's has."""
    world = Watched(seed)
    world.until(world.protected)
    world.power_loss("primary")
    lost_at = world.loop.now
    world.until(lambda: world.mac_at == "secondary" and world.leader() and world.leader().core.leading.tap_up)
    served = world.leader().core.leading.serving
    world.run(0.1)
    noted = [s.thing.facts for s in world.all(DOES, effects.Happened, "secondary") if s.thing.kind == "serving"]
    assert served and [facts["view"] for facts in noted] == [world.leader().consensus.view]
    assert 50 < noted[0]["outage_ms"] <= 1000 * (world.loop.now - lost_at)


def test_there_are_many_ways_to_break_it():
    assert len(MUTANTS) >= 12 and len({text for text, _ in MUTANTS.values()}) == len(MUTANTS)
    assert set(QUICK) <= set(MUTANTS)


def test_what_is_broken_on_purpose_is_caught_for_the_right_reason():
    """In processes of its own, so that nothing stays broken here. `make sim-mutants` tries all, with more seeds.

    What is not broken passes the same seeds.
    """
    text, status = output_of("-m", "tests.sim.mutants", *QUICK, "--seeds", str(QUICK_SEEDS))
    assert status == 0, text
    caught = {name: (int(seed), why) for name, seed, why in re.findall(r"^(\S+) +seed (\d+) +(.*)$", text, re.MULTILINE)}
    assert caught.keys() == QUICK.keys()
    for name, (seed, why) in caught.items():
        assert re.search(QUICK[name], why), f"{name}: {why}"
        assert run(seed).violation is None, f"seed {seed}"
