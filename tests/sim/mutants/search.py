# SPDX-License-Identifier: GPL-3.0-or-later
"""python3 -m tests.sim.mutants [--seeds N] [--jobs N] [--note] [NAME ...]: find a seed that catches each mutant. Exit status 1: one was
missed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
from pathlib import Path

from ..replica import ReplicaMember
from ..run import run
from . import MUTANTS

SEEDS = 5000
KNOWN = Path(__file__).parent.with_suffix(".json")
# Caught before input went to the witness with heartbeats only. No seed of the histories since then is known, and a search takes an
# hour. Looked for when they are named; when one is found, --note it and take it out of here.
NOT_FOUND = ("refusal-tells-nothing", "landed-not-read")


def first_looks(name: str) -> list[int]:
    """The seed that caught it last. It usually does again, a hundred times sooner than a search from 0."""
    known = json.loads(KNOWN.read_text())
    return [known[name]] if name in known else []


def caught(name_and_seeds: tuple[str, int]) -> tuple[str, int, str]:
    """(mutant, a seed that catches it or -1, the violation)."""
    name, seeds = name_and_seeds
    ReplicaMember.comparison = None  # the library would show each that breaks the reference
    MUTANTS[name][1]()
    for seed in itertools.chain(first_looks(name), range(seeds)):
        result = run(seed)
        if result.violation:
            return name, seed, result.violation
    return name, -1, ""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 -m tests.sim.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *MUTANTS], default=[])
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes at a time (one a core)")
    parser.add_argument("--note", action="store_true", help=f"write the seeds that caught them to {KNOWN.name}")
    options = parser.parse_args()
    names, found = options.names or [name for name in MUTANTS if name not in NOT_FOUND], {}
    with multiprocessing.get_context("spawn").Pool(options.jobs, maxtasksperchild=1) as pool:
        for name, seed, why in pool.imap_unordered(caught, [(n, options.seeds) for n in names], chunksize=1):
            found[name] = seed
            print(f"{name:28} {'MISSED' if seed < 0 else f'seed {seed}':10} {why[:150]}", flush=True)
    missed = sum(seed < 0 for seed in found.values())
    if options.note:
        known = {**json.loads(KNOWN.read_text()), **{name: seed for name, seed in found.items() if seed >= 0}}
        KNOWN.write_text(json.dumps({name: known[name] for name in MUTANTS if name in known}, indent=1) + "\n")
    print(f"{len(names)} mutants, {missed} missed in {options.seeds} seeds each")
    if not options.names:
        print(f"not looked for, as no seed is known: {', '.join(NOT_FOUND)}")
    return 1 if missed else 0
