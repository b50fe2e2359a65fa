# SPDX-License-Identifier: GPL-3.0-or-later
"""The benchmark of the input path sends real frames through real daemons, and a frame that is lost, doubled, late in order
or not the same for both VMs is no result. Times are not looked at."""

from __future__ import annotations

import json
import struct
import subprocess
import sys

import pytest

from bench.input_driver import BODY, HEAD_BYTES, INPUT, OUTPUT, TYPES, Check, Driver
from bench.input_figures import WAIT, added_us, condensed, table, vs_bare
from bench.load import BenchError
from lab.paths import ROOT

CASES = {(way, size, per_s) for way in (INPUT, OUTPUT) for size in (64, 1500) for per_s in (0, 1_000, 10_000, 50_000)}


def frame(number: int, size: int = 64, way: str = INPUT) -> bytes:
    return (bytes(12) + struct.pack("!H", TYPES[way]) + BODY.pack(number, 1000)).ljust(size, b"\0")


def run(system: str, p50_us: float, number: int = 0, **more) -> dict:
    return {
        "system": system,
        "round": number,
        "way": INPUT,
        "frame_bytes": 64,
        "per_s": 10_000,
        "p50_us": p50_us,
        "p99_us": 10 * p50_us,
        "frames_per_s": 5.0,
        "cpu_us_per_frame": 3.0,
        "syncvms": 1,
        **more,
    }


def test_a_small_run_of_both_systems(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "bench.input_path", "--seconds", "0.1", "--rounds", "1", "--out", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "input.json").read_text())
    for system in ("bare", "plover"):
        runs = [entry for entry in result["runs"] if entry["system"] == system]
        assert {(entry["way"], entry["frame_bytes"], entry["per_s"]) for entry in runs} == CASES
        assert all(entry["frames"] > 50 and 0 < entry["p50_us"] <= entry["p99_us"] for entry in runs)
    assert all(1 <= entry["frames_per_batch"] <= 64 for entry in runs if entry["way"] == INPUT)
    assert set(result["profiles"]) == {f"{way} {rest}" for way in (INPUT, OUTPUT) for rest in ("64 B", "64 B, 10,000/s", "1500 B")}
    functions = {row["function"] for found in result["profiles"].values() for row in found["functions"]}
    assert "<built-in method posix.read>" in functions and "<built-in method posix.write>" in functions
    assert len(result["added_us"]) == 24
    # In a run as short as this one, the bare path takes no whole tick of the CPU's clock.
    assert {f"{way}_{size}_max_frames" for way, size, _pace in CASES} <= set(result["vs_bare"])
    assert all(value > 0 for value in result["vs_bare"].values())


@pytest.mark.parametrize("numbers", [(0, 2), (0, 0), (1,)], ids=["lost", "doubled", "not the first"])
def test_frames_come_out_once_and_in_order(numbers):
    check = Check(INPUT, 64)
    with pytest.raises(BenchError, match="was due"):
        for number in numbers:
            check.frame(frame(number), 5000)


def test_a_frame_of_another_length_is_no_result_and_another_programs_is_passed_over():
    check = Check(INPUT, 64)
    check.frame(frame(7, way=OUTPUT), 5000)
    check.frame(memoryview(frame(0)), 5000)
    assert (check.count, check.latencies_ns) == (1, [4000])
    with pytest.raises(BenchError, match="frame 1 of 65 bytes"):
        check.frame(frame(1, 65), 5000)
    assert len(frame(0)) > HEAD_BYTES + BODY.size


def test_vms_that_were_not_fed_the_same_are_no_result(monkeypatch):
    driver = object.__new__(Driver)
    driver.vms, driver.fed = {"primary": None, "secondary": None}, {"primary": [64, 1], "secondary": [64, 2]}
    monkeypatch.setattr("bench.input_driver.SETTLE_S", 0.05)
    driver._receive = lambda check, wait_s: False
    with pytest.raises(BenchError, match="not fed the same"):
        driver.settle()
    driver.fed["secondary"] = [64, 1]
    driver.settle()


def test_what_is_added_is_the_difference_of_the_medians_of_paced_loads():
    runs = [run("plover", p50, n) for n, p50 in enumerate((100, 200, 900))] + [run("bare", 50)]
    assert added_us(runs + [run("plover", 1, per_s=0), run("bare", 2, per_s=0)]) == {
        "input_64_10000_p50_us": 150,
        "input_64_10000_p99_us": 1500,
    }
    assert added_us(runs[:3]) == {}


def test_beside_the_bare_path_a_paced_load_counts_by_cpu_and_another_by_frames():
    runs = [run("plover", 1), run("bare", 1, cpu_us_per_frame=2.0), run("plover", 1, per_s=0), run("bare", 1, per_s=0, frames_per_s=10.0)]
    assert vs_bare(runs) == {"input_64_10000_cpu": 1.5, "input_64_max_frames": 0.5}
    assert vs_bare(runs[:1]) == {}


def test_a_profile_tells_work_per_frame_from_work_per_batch():
    rows = [["tap.py", 5, "wrap", 1000, 0.001, 0.002], ["leader.py", 9, "input", 50, 0.003, 0.004], ["~", 0, WAIT, 50, 9.0, 9.0]]
    found = condensed(rows, 1000)
    assert (found["us_per_frame"], found["us_per_frame_called_for_each"]) == (4.0, 1.0)
    assert [row["function"] for row in found["functions"]] == ["leader.py:9 input", "tap.py:5 wrap"]
    assert found["functions"][0]["percent"] == 75
    result = {"cores": 2, "cpu": "x", "runs": [run("plover", 5.0)], "added_us": {}, "vs_bare": {}, "profiles": {"input 64 B": found}}
    assert any("1.00 of them" in line for line in table(result))
