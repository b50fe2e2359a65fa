# SPDX-License-Identifier: GPL-3.0-or-later
"""One process of the fuzzer, and how several share the targets."""

from __future__ import annotations

import logging
import random
from pathlib import Path
from typing import NamedTuple

from . import engine, native, trail
from . import target as targets


class Result(NamedTuple):
    target: str
    executions: int
    seconds: float
    corpus: int
    new: int
    cases: list[Path]
    words: str = ""  # of a sanitizer


def work(names: list[str], seconds: float, seed: str, keep: bool) -> list[Result]:
    """Fuzz each target for its share of ``seconds``. In a process of its own: the code under test is imported with marks in it."""
    trail.install()
    logging.disable(logging.CRITICAL)  # each refusal has a line
    from .targets import TARGETS

    return [
        _native(seconds / len(names), seed, keep) if name == native.NAME else _python(TARGETS[name], seconds / len(names), seed, keep)
        for name in names
    ]


def _native(seconds: float, seed: str, keep: bool) -> Result:
    executions, corpus, new, cases, words = native.fuzz(seconds, seed, keep)
    return Result(native.NAME, executions, seconds, corpus, new, cases, words)


def _python(target: targets.Target, seconds: float, seed: str, keep: bool) -> Result:
    fuzzer = engine.Fuzzer(target, seed, found=engine.CORPUS if keep else None)
    fuzzer.fuzz(seconds)
    return Result(target.name, fuzzer.executions, fuzzer.seconds, len(fuzzer.corpus), fuzzer.new, fuzzer.cases)


def shares(names: list[str], seed: str, jobs: int) -> list[tuple[list[str], str]]:
    """(targets, seed) of each process. A single target gets all processes, each with a seed of its own."""
    if len(names) == 1:
        return [(names, f"{seed}-{n}" if n else seed) for n in range(jobs)]
    order = sorted(names)
    random.Random(seed).shuffle(order)
    return [(part, seed) for part in (order[n::jobs] for n in range(jobs)) if part]
