# SPDX-License-Identifier: GPL-3.0-or-later
"""The benchmark hashes what it says and compares every hash; it refuses to report anything else. Times do not matter."""

from __future__ import annotations

import json
import subprocess
import sys
from array import array

import pytest

from bench import hash as bench
from bench.hash import ORDERED, PACKAGE, RANDOM, READ, Key
from bench.load import BenchError
from lab.paths import ROOT

AIMED_AT = {"vs_cityhash_1t", "vs_memory_bandwidth"}
RIGHT = array("Q", [11, 12, 13])


@pytest.fixture(scope="module", autouse=True)
def build():
    subprocess.run(["make", "-s", "-C", str(ROOT / "native"), "all", "bench"], check=True)


def test_a_run_hashes_all_pages_with_every_kernel(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "bench.hash", "--mib", "4", "--rounds", "2", "--out", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "hash.json").read_text())
    assert AIMED_AT <= set(found) and all(ratio > 0 for ratio in found.values())
    assert all(f"{key} = " in done.stdout for key in AIMED_AT)
    rows = json.loads((tmp_path / "hash-runs.json").read_text())["ns_per_page"]
    assert {PACKAGE, "plain", "pairs", f"{READ} 0"} <= {row["name"] for row in rows}
    assert {row["order"] for row in rows} == {ORDERED, RANDOM}
    assert all(len(row["rounds"]) == 2 and min(row["rounds"]) > 0 for row in rows)


@pytest.mark.parametrize("wrong", [array("Q", [11, 12, 14]), array("Q", [11, 12]), array("Q")], ids=["one", "few", "none"])
def test_hashes_that_differ_from_the_packages_are_no_result(wrong):
    work = {Key(PACKAGE, 1, ORDERED): lambda: RIGHT, Key("plain", 2, ORDERED): lambda: wrong}
    with pytest.raises(BenchError, match=r"plain, 2 threads, in order: hash \d of 3 differs from the package's"):
        bench.measure(work, 3, 1)


def test_a_hash_that_is_wrong_once_is_no_result():
    results = iter([RIGHT, RIGHT, array("Q", [10, 12, 13])])
    with pytest.raises(BenchError, match="hash 0 of 3"):
        bench.measure({Key(PACKAGE, 1, RANDOM): lambda: next(results)}, 3, 3)


def test_a_reader_that_did_not_read_everything_is_no_result():
    work = {Key(f"{READ} 0", 1, ORDERED): lambda: 7, Key(f"{READ} 1", 1, RANDOM): lambda: 6}
    with pytest.raises(BenchError, match="memory read 1, 1 threads, at random: has read a sum of 0x6, others 0x7"):
        bench.measure(work, 3, 1)


def test_without_a_result_the_command_fails_and_writes_nothing(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(sys, "argv", ["hash", "--mib", "1", "--rounds", "1", "--out", str(tmp_path / "out")])
    monkeypatch.setattr(
        bench, "contenders", lambda lib, ram: {Key(PACKAGE, 1, ORDERED): lambda: RIGHT, Key("plain", 1, ORDERED): lambda: array("Q", [1])}
    )
    assert bench.main() == 1
    assert "bench-hash: plain" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_ratios_are_how_many_times_faster_ours_is_over_the_rounds():
    def times(threads, **ns):
        return {Key(name.replace("_", " "), threads, order): list(values) for name, values in ns.items() for order in (ORDERED, RANDOM)}

    read = {"memory_read_0": (9, 90, 9), "memory_read_1": (8, 70, 8), "memory_read_2": (99, 99, 99)}
    runs = times(1, cityhash=(40, 50, 300), empty_calls=(4, 2, 0), best=(10, 20, 100), plain=(30, 30, 30), **read)
    runs |= times(2, best=(10, 100, 9), **read)
    found = bench.ratios(runs, "best")
    assert {key: ratio for key, ratio in found.items() if not key.endswith("_random")} == {
        "vs_cityhash_1t": 3.0,
        "vs_memory_bandwidth": 0.8,
        "vs_cityhash_1t_without_calls": 3.0,
        "vs_plain_1t": 1.5,
        "vs_memory_bandwidth_1t": 0.8,
    }
    assert [line.split(": ")[-1] for line in bench.verdicts(found)[:2]] == ["met)", "MISSED)"]
