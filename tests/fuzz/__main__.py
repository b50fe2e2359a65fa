# SPDX-License-Identifier: GPL-3.0-or-later
"""``python3 -m tests.fuzz``: fuzz all targets, which share the time, or some. Exit status 1 if an input breaks a promise."""

from __future__ import annotations

import argparse
import multiprocessing
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor

from . import ROOT, engine, native
from .worker import Result, shares, work

NAMES = sorted(path.name for path in engine.CORPUS.iterdir())  # each target has a corpus; see tests/unit/fuzz


def commit() -> str:
    """Of this checkout: each commit tries other inputs, and the same commit the same ones."""
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "0"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python3 -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="of each process")
    parser.add_argument("--target", default="", help=f"targets, of: {', '.join(NAMES)}; empty: all")
    parser.add_argument("--jobs", type=int, default=1, help="processes; the targets are shared out")
    parser.add_argument("--seed", default="", help="of the chance; empty: the commit's hash")
    parser.add_argument("--keep", action="store_true", help="keep inputs that reach new code in tests/fuzz/corpus")
    return parser.parse_args()


def main() -> int:
    asked = arguments()
    names, seed = asked.target.split() or NAMES, asked.seed or commit()
    if unknown := sorted(set(names) - set(NAMES)):
        sys.exit(f"--target: unknown: {', '.join(unknown)}; known are {', '.join(NAMES)}")
    parts = shares(names, seed, asked.jobs)
    with ProcessPoolExecutor(len(parts), multiprocessing.get_context("spawn")) as pool:
        done = [pool.submit(work, part, asked.seconds, own, asked.keep) for part, own in parts]
        return report([result for each in done for result in each.result()], seed)


def report(results: list[Result], seed: str) -> int:
    print(f"seed {seed}")
    print(f"{'target':<18}{'executions':>12}{'a second':>10}{'corpus':>8}{'new':>6}{'crashes':>9}")
    for r in sorted(results):
        print(f"{r.target:<18}{r.executions:>12}{r.executions / max(r.seconds, 0.001):>10.0f}{r.corpus:>8}{r.new:>6}{len(r.cases):>9}")
    cases = [case.relative_to(ROOT) for r in results for case in r.cases]
    print(f"{sum(r.executions for r in results)} executions, {sum(r.new for r in results)} new inputs, {len(cases)} crashes")
    for case in cases:
        of_library = case.parent.name == native.NAME
        words = "make -C native replay" if of_library else f".cache/venv/bin/python -m pytest -q tests/unit/fuzz -k {case.name}"
        print(f"CRASH {case}: replay it with: {words}")
    for r in results:
        print(r.words, end="")
    return int(bool(cases))


if __name__ == "__main__":
    sys.exit(main())
