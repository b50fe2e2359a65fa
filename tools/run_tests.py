# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the tests, two pieces at a time: `make test` (the core, and as much of the rest as its half hour allows),
`make test-all`, or some: run_tests.py --stage lab --only day2. A line for each piece; the log of one that fails.
Writes build/test/times.json."""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import test_pieces
from test_pieces import BUDGET_S, LANES, Piece

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "build" / "test"
TAIL_LINES = 150
LOOK_S = 0.2
END_S = 15  # a piece that is told to end has so long before it is killed
COUNT = re.compile(r"(\d+) passed\b(?:, (\d+) failed)?")


class Run(NamedTuple):
    piece: Piece
    process: subprocess.Popen
    began: float
    log: Path


class Done(NamedTuple):
    piece: Piece
    seconds: float
    error: str
    passed: int


def environment(piece: Piece) -> dict[str, str]:
    """PYTHONHASHSEED: a trace of the simulator is then the same to the letter."""
    return {**os.environ, "PLOVER_LAB": f"{os.environ.get('PLOVER_LAB', '')}-{piece.lab}", "PYTHONHASHSEED": "0"}


class Runner:
    """Starts pieces as lanes get free, and ends those that take too long. ``began``: of the whole run, time.time()."""

    def __init__(self, began: float, live: bool = False) -> None:
        self._began, self._live = began, live
        self._running: list[Run] = []
        self.done: list[Done] = []

    @property
    def now_s(self) -> float:
        return time.time() - self._began

    @property
    def pace(self) -> float:
        """How much slower than its figures the machine was so far; what was made for the first time is not counted."""
        known = [d for d in self.done if not d.error and d.piece.stage not in ("gates", "images", "native")]
        planned = sum(d.piece.seconds for d in known)
        return max(1.0, sum(d.seconds for d in known) / planned) if planned else 1.0

    def all_of(self, pieces: list[Piece]) -> None:
        queue = list(pieces)
        images_made = not any(piece.stage == "images" for piece in queue)
        while queue or self._running:
            piece = test_pieces.next_piece(queue, [run.piece for run in self._running], images_made)
            if piece:
                queue.remove(piece)
                self._start(piece)
            elif any(done.piece.stage == "images" for done in self._ended()):
                images_made = True

    def as_time_allows(self, ring: list[Piece]) -> list[str]:
        """The names of those that were run."""
        taken, queue = [], list(ring)
        while queue or self._running:
            free = LANES - sum(run.piece.lanes for run in self._running)
            queue = [p for p in queue if test_pieces.fits(p, self.now_s, self._busy_s(p), self.pace)]
            if queue and queue[0].lanes <= free:
                taken.append(queue[0].title)
                self._start(queue.pop(0))
            elif self._running:
                self._ended()
        return taken

    def _busy_s(self, piece: Piece) -> float:
        """How long the lanes that ``piece`` needs will still be busy, by estimate."""
        left = sorted(
            max(0.0, run.piece.seconds * self.pace - (time.time() - run.began)) for run in self._running for _lane in range(run.piece.lanes)
        )
        wanted = piece.lanes - (LANES - len(left))
        return left[wanted - 1] if wanted > 0 else 0.0

    def _start(self, piece: Piece) -> None:
        log = OUT / f"{piece.slug}.log"
        with open(log, "wb") as file:
            out = None if self._live else file
            process = subprocess.Popen(
                piece.command,
                cwd=ROOT,
                env=environment(piece),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=not self._live,
            )
        self._running.append(Run(piece, process, time.time(), log))

    def _ended(self) -> list[Done]:
        """Waits a moment; those that ended meanwhile."""
        time.sleep(LOOK_S)
        out = []
        for run in list(self._running):
            late = time.time() - run.began > run.piece.timeout_s and not self._live
            if late:
                self._end(run)
            if run.process.poll() is not None:
                self._running.remove(run)
                out.append(self._judge(run, late))
        self.done += out
        return out

    def _end(self, run: Run) -> None:
        """SIGINT first: pytest and ansible then clean up. What the piece's lab still has goes with it."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(run.process.pid, number)
                run.process.wait(END_S)
                break
            except ProcessLookupError:
                break
            except subprocess.TimeoutExpired:
                continue
        if run.piece.stage in ("lab", "molecule"):
            subprocess.run(
                ["/usr/bin/python3", "-m", "lab", "down"],
                cwd=ROOT,
                env=environment(run.piece),
                check=False,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=60,
            )

    def _judge(self, run: Run, late: bool) -> Done:
        seconds, code = time.time() - run.began, run.process.returncode
        said = run.log.read_text(errors="replace")
        error = f"took longer than {run.piece.timeout_s} s" if late else f"exit status {code}" if code else ""
        passed = sum(int(found.group(1)) for found in COUNT.finditer(said))
        count = f"{passed} passed, " if passed else ""
        print(f"{run.piece.title:28} {'FAILED: ' + error if error else 'ok'}  {count}{seconds:.0f} s", flush=True)
        if error and not self._live:
            print(f"{'=' * 20} the end of {run.log.relative_to(ROOT)}:")
            print("\n".join(said.splitlines()[-TAIL_LINES:]), flush=True)
        return Done(run.piece, seconds, error, passed)

    def stop(self) -> None:
        for run in self._running:
            self._end(run)


def commit() -> str:
    """The checkout's commit; "none" outside a repository."""
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "none"


def times(done: list[Done], setup_s: float, total_s: float) -> dict:
    stages: dict[str, float] = {"setup": round(setup_s, 1)}
    for piece, seconds, _error, _passed in done:
        stages[piece.stage] = round(stages.get(piece.stage, 0.0) + seconds, 1)
    return {
        "total_s": round(total_s, 1),
        "stages": stages,
        "pieces": {d.piece.title: round(d.seconds, 1) for d in done},
        "commit": commit(),
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="run_tests.py", description=__doc__)
    parser.add_argument("--began", type=float, default=time.time(), help="when `make` began (seconds since 1970)")
    parser.add_argument("--all", action="store_true", help="everything")
    parser.add_argument("--stage", action="append", default=[], choices=list(test_pieces.STAGES))
    parser.add_argument("--only", default="", help="names of pieces, e.g. 'day2 secrets'")
    parser.add_argument("--list", action="store_true", help="the pieces and what they cost; runs nothing")
    options = parser.parse_args()
    pieces = test_pieces.chosen(options.stage, options.only.split())
    if not pieces:
        names = ", ".join(p.name for p in test_pieces.chosen(options.stage, ()))
        parser.error(f"no piece is called {options.only!r}; there are {names}")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in a shell's background; pieces would inherit that and not heed it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if options.list:
        print(test_pieces.table() + test_pieces.lines(pieces))
        return 0
    OUT.mkdir(parents=True, exist_ok=True)
    some = bool(options.stage or options.only)
    runner = Runner(options.began, live=some and len(pieces) == 1)
    setup_s = runner.now_s
    try:
        if some:
            make_images(pieces)
            runner.all_of(pieces)
        elif options.all:
            runner.all_of(pieces)
        else:
            runner.all_of(test_pieces.core())
            run_slice(runner)
    finally:
        runner.stop()
    if not some:
        (OUT / "times.json").write_text(json.dumps(times(runner.done, setup_s, runner.now_s), indent=1) + "\n")
    return report(runner)


def make_images(pieces: list[Piece]) -> None:
    """Two pieces side by side must not both make them."""
    if any(piece.needs_images for piece in pieces):
        subprocess.run([test_pieces.PYTHON, "-m", "lab.images"], cwd=ROOT, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def run_slice(runner: Runner) -> None:
    name = commit()
    ring = test_pieces.rest(name)
    print(
        f"core: {runner.now_s:.0f} of {BUDGET_S} s; then a slice of the rest, as commit {name[:12]} begins it: at '{ring[0].title}'",
        flush=True,
    )
    taken = runner.as_time_allows(ring)
    print(
        f"slice of commit {name[:12]}: {', '.join(taken) or 'nothing; no time was left'} "
        f"({len(taken)} of {len(ring)} pieces; all: make test-all)"
    )


def report(runner: Runner) -> int:
    failed = [done for done in runner.done if done.error]
    good = len(runner.done) - len(failed)
    for done in failed:
        print(f"FAILED: {done.piece.title} ({done.error})")
    print(f"{good} of {len(runner.done)} pieces passed, {runner.now_s:.0f} s; the tests in them:")
    print(f"{sum(done.passed for done in runner.done) or good} passed, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
