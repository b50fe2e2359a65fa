# SPDX-License-Identifier: GPL-3.0-or-later
"""The benchmark of the disks' stream writes through both ways, and a way that fails is no result. Times are not looked at."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from bench.disk_link import LOADS, WAYS, Direct, Load, one_load, ratios, spread, table
from bench.load import BenchError
from lab.paths import ROOT


def run(way: str, speed: float, number: int = 0, beats: dict | None = None) -> dict:
    return {
        "way": way,
        "mbit_per_s": 0,
        "round": number,
        "load": "64 KiB x 16",
        "mib_per_s": speed,
        "idle_beats_ms": beats or {},
        "beats_ms": beats or {},
    }


def test_a_small_run_of_all_ways(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "bench.disk_link", "--part", "0.01", "--rounds", "1", "--links", "0", "--out", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "disk_link.json").read_text())
    done_loads = {(entry["way"], entry["load"]) for entry in result["runs"]}
    assert done_loads == {(way, load.name) for way in WAYS for load in LOADS}
    assert all(entry["mib_per_s"] > 0 for entry in result["runs"])
    assert all(entry["idle_beats_ms"]["p50"] > 0 for entry in result["runs"])
    assert all(row["ratio"] > 0 and row["tls_ratio"] > 0 for row in result["ratios"])


def test_a_client_that_cannot_write_is_no_result(monkeypatch):
    class Nowhere(Direct):
        url = "nbd+unix:///disk?socket=/nowhere"

        def __init__(self) -> None: ...

        def beats(self) -> dict:
            return {"round_trips_ms": [], "cpu_s": 0.0}

        def ready(self) -> bool:
            return True

    monkeypatch.setattr("bench.disk_link.in_host", lambda host, *words: list(words))
    with pytest.raises(BenchError, match="qemu-img bench .*: .*nowhere"):
        one_load(Nowhere(), Load(4096, 1, 1))


def test_the_figures_are_medians_of_rounds_run_in_turn():
    beats = {"p50": 1.0, "p99": 2.0, "max": 3.0}
    runs = [run("direct", speed, n) for n, speed in enumerate((100.0, 200.0, 300.0))]
    runs += [run("carried", speed, n, beats) for n, speed in enumerate((90.0, 180.0, 500.0))]
    runs += [run("tls", 50.0, 0)]
    (row,) = ratios(runs)
    assert (row["direct_mib_per_s"], row["carried_mib_per_s"], row["ratio"]) == (200.0, 180.0, 0.9)
    assert (row["tls_mib_per_s"], row["tls_ratio"]) == (50.0, 0.25)
    assert (row["direct_beat_ms"], row["carried_beat_ms"]) == ({}, {"p50": 1.0, "p99": 2.0, "max": 3.0})
    assert "0.90 " in table({"cores": 2, "cpu": "x", "ratios": [row]})[2]
    assert spread([]) == {} and spread([5.0, 1.0])["max"] == 5.0
