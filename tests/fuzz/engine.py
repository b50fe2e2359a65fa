# SPDX-License-Identifier: GPL-3.0-or-later
"""Fuzzes one target: changes inputs, keeps those that reach new code, saves those that break a promise."""

from __future__ import annotations

import hashlib
import random
import resource
import signal
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import mutate, trail
from . import target as targets

HERE = Path(__file__).resolve().parent
CORPUS, CASES = HERE / "corpus", HERE / "cases"
CPU_S_MAX = 5.0  # of one input
MEMORY_KIB_MAX = 256 << 10  # that one input may add to the most that the process ever had
CASES_MAX = 20  # of one target in one run
SHRINK_RUNS = 400
WORDS_MAX = 8  # of a broken promise, in a case's name
RECENT = 16


class Overtime(BaseException):
    """An input took too long. Not an Exception: the code under test must not catch it."""


def _overtime(_number: int, _frame: object) -> None:
    raise Overtime


@contextmanager
def limited() -> Iterator[None]:
    """CPU time, so that a busy machine breaks no promise."""
    before = signal.signal(signal.SIGPROF, _overtime)
    signal.setitimer(signal.ITIMER_PROF, CPU_S_MAX)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def crash(target: targets.Target, data: bytes) -> str:
    """What breaks its promise, as the name of a case; empty if nothing does."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        with limited():
            targets.run(target, data)
    except Overtime:
        return "overtime"
    except Exception as error:
        return _name(error)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak
    return "memory" if grown > MEMORY_KIB_MAX else ""


def _name(error: Exception) -> str:
    """The error and the place in the code under test."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "/plugins/" in frame.filename]
    where = f"-{Path(frames[-1].filename).stem}-{frames[-1].name}" if frames else ""
    if isinstance(error, targets.Broken):
        where += "-" + "_".join(str(error).partition(":")[0].split()[:WORDS_MAX])
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in type(error).__name__ + where)


def folder(base: Path, target: targets.Target) -> list[bytes]:
    where = base / target.name
    return [path.read_bytes() for path in sorted(where.iterdir())] if where.is_dir() else []


class Fuzzer:
    """``found``: where new inputs of the corpus go; None: nowhere. ``cases``: where crashes go."""

    def __init__(self, target: targets.Target, seed: str, cases: Path = CASES, found: Path | None = None) -> None:
        self.target, self._base, self._found = target, cases, found
        self._rng = random.Random(f"{seed} {target.name}")
        self._words = sorted(trail.words)
        self._seen: set[tuple[int, int]] = set()
        self._known: set[str] = set()
        self.corpus: list[bytes] = []
        self.executions = self.new = 0
        self.seconds = 0.0
        self.cases: list[Path] = []

    def _begin(self, end: float) -> None:
        """Learn what the corpus reaches, in at most half the time."""
        for data in folder(CORPUS, self.target) + folder(CASES, self.target):
            if time.monotonic() < end:
                self._look(data, new=False)
            if data not in self.corpus:
                self.corpus.append(data)

    def fuzz(self, seconds: float) -> None:
        began = time.monotonic()
        if not self.corpus:
            self._begin(began + seconds / 2)
        while time.monotonic() < began + seconds and len(self.cases) < CASES_MAX:
            self._look(self._next(), new=True)
        self.seconds += time.monotonic() - began

    def _next(self) -> bytes:
        parents = self.corpus[-RECENT:] if self._rng.random() < 0.3 else self.corpus
        data = self._rng.choice(parents) if parents else b""
        return mutate.stacked(self._rng, data, self.corpus, self._words, self.target.is_json, self.target.bytes_max)

    def _look(self, data: bytes, new: bool) -> None:
        trail.clear()
        name = crash(self.target, data)
        self.executions += 1
        edges = trail.edges()
        if not edges <= self._seen:
            self._seen |= edges
            if new:
                self.corpus.append(data)
                self.new += 1
                if self._found and not name:
                    self._save(self._found, hashlib.sha256(data).hexdigest()[:12], data)
        if name and name not in self._known:
            self._known.add(name)
            self.cases.append(self._save(self._base, name, self._shrunk(data, name)))

    def _save(self, base: Path, name: str, data: bytes) -> Path:
        path = base / self.target.name / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    def _shrunk(self, data: bytes, name: str) -> bytes:
        """A shorter input that breaks the same promise at the same place."""
        if name in ("overtime", "memory"):
            return data
        size, runs = max(1, len(data) // 2), 0
        while size and runs < SHRINK_RUNS:
            at, shorter = 0, False
            while at < len(data) and runs < SHRINK_RUNS:
                less, runs = data[:at] + data[at + size :], runs + 1
                if crash(self.target, less) == name:
                    data, shorter = less, True
                else:
                    at += size
            size = size if shorter else size // 2
        return data
