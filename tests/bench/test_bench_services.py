# SPDX-License-Identifier: GPL-3.0-or-later
"""The benchmark of services measures real systems, and its ratios are what they say. Times are not looked at."""
from __future__ import annotations

import argparse
import json
import subprocess
import sys

import pytest

from bench import report, services
from bench.load import BenchError
from bench.services import line, ratio, ratios, syncvm_figures, table
from lab.paths import ROOT

LABELS = {"vcpus": 1, "mbit_per_s": 1000, "workload": "redis-set-p1"}


def run(mode: str, rate: float, number: int = 0, **more) -> dict:
    return {**LABELS, "mode": mode, "round": number, "requests_per_s": rate, "p50_ms": 1.0, "p99_ms": 2.0,
            "wire_bytes_per_request": 10.0, **more}


def test_a_small_run_of_real_systems(tmp_path):
    systems = ["unprotected", "plover", "remus-25ms", "colo"]
    done = subprocess.run([sys.executable, "-m", "bench.services", "--systems", ",".join(systems), "--rounds", "1",
                           "--seconds", "0.5", "--vcpus", "1", "--mbit-per-s", "1000", "--workloads", "redis-set-p16",
                           "--out", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "services.json").read_text())
    runs = {entry["mode"]: entry for entry in result["runs"]}
    assert list(runs) == systems
    assert all(entry["requests"] > 0 and entry["requests_per_s"] > 0 for entry in runs.values())
    assert sum(runs["unprotected"]["wire_bytes"].values()) == 0
    for mode in ("plover", "remus-25ms"):
        assert runs[mode]["syncvms"] > 1 and runs[mode]["pause_p50_ms"] > 0
        assert runs[mode]["wire_bytes"]["primary"] > runs[mode]["syncvms"] * runs[mode]["syncvm_bytes_p50"] / 2
        assert all(runs[mode]["cpu_s"][host] > 0 for host in ("primary", "secondary"))
    assert runs["remus-25ms"]["same_page_percent"] == 0
    assert all(runs["colo"]["wire_bytes"][host] > runs["colo"]["requests"] for host in ("primary", "secondary"))
    page = (tmp_path / "report.html").read_text()
    assert all(f">{mode}</span>" in page for mode in systems)
    assert result["ratios"]["throughput_vs_unprotected"] > 0 and result["ratios"]["throughput_vs_colo"] > 0
    assert "colo_lock.c" in result["colo"] and "colo_lock.c" in page


def test_a_ratio_is_the_mean_over_the_cases_of_medians_over_the_rounds():
    runs = [run("plover", rate, n) for n, rate in enumerate((1, 8, 90))] + [run("remus-25ms", 2)]
    runs += [run("plover", 9, workload="redis-get-p1"), run("remus-25ms", 9, workload="redis-get-p1")]
    assert ratio(runs, "requests_per_s", "remus-25ms") == pytest.approx(2.0)  # 8 / 2 and 9 / 9
    assert ratio(runs + [run("plover", 1, workload="other")], "requests_per_s", "remus-25ms") is None
    assert ratio(runs + [run("plover", 1, mbit_per_s=10_000)], "requests_per_s", "remus-25ms") == pytest.approx(2.0)
    assert set(ratios(runs)) == {"throughput_vs_colo", "throughput_vs_remus_25ms", "throughput_vs_unprotected",
                                 "wire_bytes_per_request_vs_remus_25ms", "pause_p50_vs_colo"}


def test_figures_of_syncvms_are_those_of_the_load():
    syncvms = [{"number": n, "pause_ms": n, "dirty_pages": 100, "divergent_pages": 25, "bytes": 7, "at_s": n / 10}
               for n in range(1, 6)]
    figures = syncvm_figures(syncvms)
    assert (figures["syncvms"], figures["pause_p50_ms"], figures["interval_p50_ms"]) == (5, 3, 100)
    assert figures["same_page_percent"] == 75
    assert syncvm_figures([]) == {"syncvms": 0}
    only = syncvm_figures(syncvms[:1])
    assert only["pause_p50_ms"] == 1 and "interval_p50_ms" not in only


def test_the_reports_bars_are_as_long_as_their_medians():
    runs = [run("plover", rate, n) for n, rate in enumerate((1, 50, 60))] + [run("remus-25ms", 100)]
    ours, theirs = report.bars(runs, "requests_per_s", ["plover", "remus-25ms", "colo"])
    assert (ours["percent"], theirs["percent"], ours["value"], ours["least"], ours["most"]) == (50, 100, "50", "1", "60")
    assert report.bars(runs, "pause_p50_ms", ["plover"]) == []
    page = report.page([run("<script>", 1.0)], {"ours_vs_theirs": None}, ["<script>"], "", "")
    assert "<script>" not in page and "not measured" in page


def test_only_colo_may_fail_and_that_is_told(monkeypatch):
    def one_system(labels: dict, options) -> list[dict]:
        if labels["mode"] == broken:
            raise BenchError("no answer")
        return [labels]
    monkeypatch.setattr(services, "one_system", one_system)
    monkeypatch.setattr(services.hosts, "shape", lambda mbit_per_s: None)
    options = argparse.Namespace(vcpus=["1"], mbit_per_s=["1000"], rounds=1, systems=["plover", "colo"])
    broken = "colo"
    runs, failures = services.measure(options)
    assert [entry["mode"] for entry in runs] == ["plover"] and failures == ["1 vCPU, 1 Gbit/s, round 1: no answer"]
    assert "failed 1 times" in services.colo_notes(failures) and "failed" not in services.colo_notes([])
    broken = "plover"
    with pytest.raises(BenchError):
        services.measure(options)


def test_what_is_printed_names_every_run():
    runs = [run("plover", 5.0), run("unprotected", 9.0)]
    assert "unprotected" in line(runs[1]) and len([row for row in table(runs) if "redis-set-p1" in row]) == 2
