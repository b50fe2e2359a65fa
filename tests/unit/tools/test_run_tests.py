# SPDX-License-Identifier: GPL-3.0-or-later
"""The test run itself: nothing is left out, the half hour is kept, and a series of commits comes round to everything."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tools"))

import run_tests  # noqa: E402
import test_pieces  # noqa: E402
from test_pieces import BUDGET_S, LANES, PIECES, SPARE_S, Piece  # noqa: E402


def test_every_test_file_and_scenario_is_in_exactly_one_piece():
    words = Counter(word for piece in PIECES for word in piece.command)
    for stage in ("integration", "hostile", "rdma", "lab"):
        for path in (ROOT / "tests" / stage).glob("test_*.py"):
            assert words[str(path.relative_to(ROOT))] == 1, path
    for folder in (ROOT / "molecule").iterdir():
        assert [p.name for p in PIECES if p.stage == "molecule"].count(folder.name) == 1, folder
    whole = {"unit", "system", "fuzz", "sim", "bench", "integration", "hostile", "rdma", "lab", "plays", "prechecks"}
    assert {p.name for p in (ROOT / "tests").iterdir() if p.is_dir() and not p.name.startswith("_")} == whole


def test_the_simulators_pieces_are_ten_thousand_seeds_without_a_gap():
    seeds = [(int(p.command[6]), int(p.command[4])) for p in PIECES if p.name.startswith("seeds")]
    assert [first for first, _count in seeds] == [0, seeds[0][1], seeds[0][1] + seeds[1][1]]
    assert sum(count for _first, count in seeds) == 10_000
    assert sum(int(p.command[4]) for p in test_pieces.core() if p.name.startswith("seeds")) >= 3000


def test_each_run_proves_one_of_each_kind_but_the_benchmarks():
    assert {p.stage for p in test_pieces.core()} == set(test_pieces.STAGES) - {"bench", "docs-site", "plays"}
    assert len({p.lab for p in PIECES}) == len({p.slug for p in PIECES}) == len(PIECES)
    assert max(len(p.lab) for p in PIECES) <= 22


def test_each_piece_has_its_turn_at_the_beginning_of_the_ring():
    rings = [test_pieces.rest(f"commit {n}") for n in range(12_000)]  # others are nearly as long as the longest
    assert {len(ring) for ring in rings} == {len(PIECES) - len(test_pieces.core())}
    assert all(set(ring) == set(rings[0]) for ring in rings[:20])
    first = Counter(ring[0].title for ring in rings)
    longest = max(rings[0], key=lambda piece: piece.seconds)
    assert first.most_common(1)[0][0] == longest.title
    assert set(first) == {piece.title for piece in rings[0]}
    assert test_pieces.rest("commit 7") == rings[7]


def test_a_piece_that_wants_both_lanes_waits_for_them_and_nothing_overtakes_it():
    narrow, wide = Piece("unit", "n", (), 1), Piece("lab", "w", (), 1, lanes=LANES)
    assert test_pieces.next_piece([wide, narrow], [narrow], images_made=True) is None
    assert test_pieces.next_piece([wide, narrow], [], images_made=True) is wide
    assert test_pieces.next_piece([wide, narrow], [], images_made=False) is narrow
    assert test_pieces.next_piece([narrow], [narrow, narrow], images_made=True) is None


def test_a_piece_is_begun_only_if_it_ends_in_time():
    piece = Piece("lab", "x", (), 100)
    last = BUDGET_S - SPARE_S - 100
    assert test_pieces.fits(piece, last, 0, 1.0) and not test_pieces.fits(piece, last + 1, 0, 1.0)
    assert not test_pieces.fits(piece, last, 1, 1.0)
    assert not test_pieces.fits(piece, last - 50, 0, 2.0) and test_pieces.fits(piece, last - 100, 0, 2.0)


@pytest.fixture
def out(tmp_path, monkeypatch):
    monkeypatch.setattr(run_tests, "OUT", tmp_path)
    monkeypatch.setattr(run_tests, "LOOK_S", 0.02)
    monkeypatch.setattr(run_tests, "ROOT", tmp_path)
    return tmp_path


def python(text: str, name: str = "x", **more) -> Piece:
    return Piece("unit", name, (sys.executable, "-c", text), more.pop("seconds", 1), **more)


def test_a_piece_that_fails_is_told_with_its_log_and_the_others_run_on(out, capsys):
    runner = run_tests.Runner(run_tests.time.time())
    runner.all_of([python("print('boom', 3); raise SystemExit(3)", "bad"), python("print('7 passed in 1 s')", "good")])
    assert {d.piece.name: (d.error, d.passed) for d in runner.done} == {"bad": ("exit status 3", 0), "good": ("", 7)}
    assert run_tests.report(runner) == 1
    said = capsys.readouterr().out
    assert "boom 3" in said and "FAILED: unit bad (exit status 3)" in said and said.endswith("7 passed, 1 failed\n")


def test_a_piece_that_hangs_is_ended(out, monkeypatch):
    monkeypatch.setattr(Piece, "timeout_s", property(lambda piece: 0.2))
    monkeypatch.setattr(run_tests, "END_S", 1)
    runner = run_tests.Runner(run_tests.time.time())
    runner.all_of([python("import time; time.sleep(600)")])
    assert [d.error for d in runner.done] == ["took longer than 0.2 s"]


def test_a_slice_takes_what_fits_and_says_what(out):
    runner = run_tests.Runner(run_tests.time.time() - BUDGET_S + SPARE_S + 60)
    ring = [python("pass", "long", seconds=61), python("pass", "short", seconds=5), python("pass", "wide", seconds=5, lanes=LANES)]
    assert runner.as_time_allows(ring) == ["unit short", "unit wide"]
    assert all(not d.error for d in runner.done)


def test_the_times_of_a_run_are_written_by_stage():
    done = [run_tests.Done(Piece("lab", "a", (), 1), 2.0, "", 1), run_tests.Done(Piece("lab", "b", (), 1), 3.04, "", 1)]
    found = run_tests.times(done, 5.0, 12.34)
    assert (found["total_s"], found["stages"]) == (12.3, {"setup": 5.0, "lab": 5.0})
    json.dumps(found)


def test_the_documents_table_is_the_plans():
    text = (ROOT / "docs" / "testing.md").read_text()
    assert test_pieces.table() in text, "docs/testing.md: put in the table that 'make test-list' prints"


def test_a_piece_is_found_by_its_name_and_by_a_file_of_it():
    assert [p.name for p in test_pieces.chosen(["lab"], ["secrets", "day2"])] == ["day2", "members"]
    assert [p.name for p in test_pieces.chosen(["lab"], ["refusals"])] == ["refusals"]
    assert len(test_pieces.chosen(["lab"], [])) == sum(p.stage == "lab" for p in PIECES)


def test_what_does_not_exist_is_refused_with_what_does():
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "run_tests.py", "--stage", "rdma", "--only", "nosuch"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2 and "no piece is called 'nosuch'; there are verbs" in done.stderr
