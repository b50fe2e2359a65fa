# SPDX-License-Identifier: GPL-3.0-or-later
"""python3 -m tests.sim SEEDS [--first N] | --seed K: run seeds on all cores; exit status 1 if an invariant broke."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections import Counter

from . import ROOT
from .plan import CELLS, PHASES, ROWS
from .run import Result, run

COVERAGE = ROOT / "build" / "sim" / "coverage.txt"
TRACE_LINES = 40


def replay(seed: int) -> int:
    trace: list[str] = []
    result = run(seed, trace)
    print("\n".join(trace))
    print(
        f"seed {seed}: {result.violation or 'no violation'}; {len(result.injected)} faults, {result.steps} steps, "
        f"{result.answered} operations answered"
    )
    return 1 if result.violation else 0


def coverage(injected: Counter) -> tuple[str, int]:
    """The table fault x phase as text, and how many of its cells are empty."""
    width = max(len(f"{f}/{r}") for f, r in ROWS)
    lines = ["how often each fault was injected in each phase; columns:"]
    lines += [f"  {n:2}  {phase}" for n, phase in enumerate(PHASES)]
    lines.append(" " * width + "".join(f"{n:6}" for n in range(len(PHASES))))
    for fault, role in ROWS:
        counts = "".join(f"{injected[fault, role, phase]:6}" for phase in PHASES)
        lines.append(f"{fault + '/' + role:{width}}{counts}")
    return "\n".join(lines) + "\n", sum(1 for cell in CELLS if not injected[cell])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 -m tests.sim", description=__doc__)
    parser.add_argument("seeds", type=int, nargs="?", default=1000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes at a time (one a core)")
    parser.add_argument("--seed", type=int, help="replay one seed with its trace")
    options = parser.parse_args()
    if options.seed is not None:
        return replay(options.seed)
    began, injected, bad, steps = time.monotonic(), Counter(), [], 0
    with multiprocessing.get_context("spawn").Pool(options.jobs) as pool:
        seeds = range(options.first, options.first + options.seeds)
        for done, result in enumerate(pool.imap_unordered(run, seeds, chunksize=20), 1):
            injected.update(result.injected)
            steps += result.steps
            if result.violation:
                bad.append(result)
                print(f"seed {result.seed}: {result.violation}", flush=True)
            if done % 1000 == 0:
                print(f"{done}/{options.seeds} seeds, {len(bad)} violations, {time.monotonic() - began:.0f} s", flush=True)
    report(bad, injected, steps, time.monotonic() - began)
    print(f"{options.seeds} seeds, {len(bad)} violations, {sum(injected.values())} faults injected")
    return 1 if bad else 0


def report(bad: list[Result], injected: Counter, steps: int, seconds: float) -> None:
    table, empty = coverage(injected)
    COVERAGE.parent.mkdir(parents=True, exist_ok=True)
    COVERAGE.write_text(table)
    if bad:
        first = min(bad)
        trace: list[str] = []
        run(first.seed, trace)
        path = COVERAGE.with_name(f"seed-{first.seed}.txt")
        path.write_text("\n".join(trace) + "\n")
        print("\n".join(trace[-TRACE_LINES:]))
        print(f"the whole trace of seed {first.seed}: {path.relative_to(ROOT)}; again: make sim SEED={first.seed}")
    print(f"fault x phase: {len(CELLS)} cells, {empty} empty ({COVERAGE.relative_to(ROOT)})")
    print(f"{steps} steps in {seconds:.0f} s")


if __name__ == "__main__":
    sys.exit(main())
