# SPDX-License-Identifier: GPL-3.0-or-later
"""The benchmark of services measures real systems, and its ratios are what they say. Times are not looked at."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from bench import costs, report, services
from bench.load import BenchError
from bench.services import belongs, groups, line, measure, parse, ratio, ratios, syncvm_figures, table
from lab.paths import ROOT

LABELS = {"vcpus": 1, "mbit_per_s": 1000, "workload": "redis-set-p1"}


def run(mode: str, rate: float, number: int = 0, **more) -> dict:
    return {
        **LABELS,
        "mode": mode,
        "round": number,
        "requests_per_s": rate,
        "p50_ms": 1.0,
        "p99_ms": 2.0,
        "wire_bytes_per_request": 10.0,
        **more,
    }


def real_run(out, systems: list[str], workloads: str) -> dict:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "bench.services",
            "--systems",
            ",".join(systems),
            "--rounds",
            "1",
            "--seconds",
            "0.5",
            "--vcpus",
            "1",
            "--mbit-per-s",
            "1000",
            "--workloads",
            workloads,
            "--out",
            str(out),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads((out / "services.json").read_text())
    assert result["failures"] == []
    return result


def test_a_small_run_of_real_systems(tmp_path):
    systems = ["unprotected", "plover", "remus-25ms", "colo"]
    result = real_run(tmp_path, systems, "redis-set-p16,web-shop")
    assert [(entry["mode"], entry["workload"]) for entry in result["runs"]] == [
        (mode, workload) for mode in systems for workload in ("redis-set-p16", "web-shop")
    ]
    assert all(entry["requests_per_s"] > 0 for entry in result["runs"])
    runs = {entry["mode"]: entry for entry in result["runs"] if entry["workload"] == "redis-set-p16"}
    assert list(runs) == systems
    assert all(entry["requests"] > 0 and entry["requests_per_s"] > 0 for entry in runs.values())
    assert sum(runs["unprotected"]["wire_bytes"].values()) == 0
    for mode in ("plover", "remus-25ms"):
        assert runs[mode]["syncvms"] > 1 and runs[mode]["pause_p50_ms"] > 0
        assert runs[mode]["wire_bytes"]["primary"] > runs[mode]["syncvms"] * runs[mode]["syncvm_bytes_p50"] / 2
        assert all(runs[mode]["cpu_s"][f"{host} {kind}"] > 0 for host in ("primary", "secondary") for kind in ("vm", "daemon"))
    assert runs["remus-25ms"]["same_page_percent"] == 0
    assert all(runs["colo"]["wire_bytes"][host] > runs["colo"]["requests"] for host in ("primary", "secondary"))
    page = (tmp_path / "report.html").read_text()
    assert all(f">{mode}</span>" in page for mode in systems)
    assert result["ratios"]["throughput_vs_unprotected"] > 0 and result["ratios"]["throughput_vs_colo"] > 0
    assert "colo_lock.c" in result["colo"] and "colo_lock.c" in page


def test_one_client_alone_short_connections_bulk_and_udp(tmp_path):
    workloads = ("redis-one-client", "web-connections", "redis-upload", "redis-download", "dns")
    runs = real_run(tmp_path, ["unprotected", "plover-plain"], ",".join(workloads))["runs"]
    assert [(entry["mode"], entry["workload"]) for entry in runs] == [
        (mode, workload) for mode in ("unprotected", "plover-plain") for workload in workloads
    ]
    bulk = {entry["workload"]: entry for entry in runs if entry["mode"] == "plover-plain"}
    assert bulk["redis-upload"]["wire_bytes"]["primary"] > bulk["redis-upload"]["requests"] << 20, "input goes to the secondary"


def test_a_small_run_with_a_disk(tmp_path):
    (only,) = real_run(tmp_path, ["plover"], "pgbench-tpcb")["runs"]
    assert only["guest"] == "disk" and only["requests"] > 0 and only["syncvms"] > 1


def test_a_system_that_fails_loses_its_own_figures_only(tmp_path, monkeypatch):
    def one_group(labels, options):
        if (labels["mode"], labels["round"]) == ("plover", 1):
            raise BenchError("plover: not protected\nthe end of a log")
        return [{**run(labels["mode"], 5.0), **labels}]

    monkeypatch.setattr(services, "one_group", one_group)
    monkeypatch.setattr(services.hosts, "shape", lambda mbit_per_s: None)
    options = parse(["--systems", "plover,unprotected", "--vcpus", "1", "--mbit-per-s", "1000", "--out", str(tmp_path)])
    runs, failures = measure(options, ["memory"])
    assert [(r["mode"], r["round"]) for r in runs] == [
        ("plover", 0),
        ("unprotected", 0),
        ("unprotected", 1),
        ("plover", 2),
        ("unprotected", 2),
    ]
    assert failures == [
        {
            "mode": "plover",
            "guest": "memory",
            "vcpus": 1,
            "mbit_per_s": 1000,
            "round": 1,
            "error": "plover: not protected\nthe end of a log",
        }
    ]
    result = json.loads((tmp_path / "services.json").read_text())
    assert (result["runs"], result["failures"]) == (runs, failures)
    page = (tmp_path / "report.html").read_text()
    assert "Failed: plover, memory guest, 1 vCPU, 1 Gbit/s, round 2: plover: not protected." in page and "a log" not in page


def test_an_interrupted_run_leaves_its_figures(tmp_path, monkeypatch):
    def one_group(labels, options):
        if labels["round"] == 1:
            raise KeyboardInterrupt
        return [{**run(labels["mode"], 5.0), **labels}]

    monkeypatch.setattr(services, "one_group", one_group)
    monkeypatch.setattr(services.hosts, "shape", lambda mbit_per_s: None)
    with pytest.raises(KeyboardInterrupt):
        measure(parse(["--systems", "plover", "--out", str(tmp_path)]), ["disk"])
    assert len(json.loads((tmp_path / "services.json").read_text())["runs"]) == 1


def test_the_plan_says_what_is_run_unless_the_options_do():
    def cases(*options: str) -> set:
        return {(g["guest"], g["vcpus"], g["mbit_per_s"]) for g in groups(parse(list(options)), ["memory", "disk"])}

    assert cases() == {("memory", 1, 1_000), ("memory", 2, 1_000), ("memory", 1, 10_000), ("disk", 1, 1_000)}
    assert cases("--vcpus", "1") == {("memory", 1, 1_000), ("memory", 1, 10_000), ("disk", 1, 1_000)}
    assert cases("--vcpus", "2", "--mbit-per-s", "500") == {("memory", 2, 500), ("disk", 2, 500)}
    with pytest.raises(SystemExit):
        parse(["--seconds", "0"])
    first = [group["mode"] for group in groups(parse(["--systems", "plover,unprotected"]), ["disk"])]
    assert first == ["plover", "unprotected", "unprotected", "plover", "plover", "unprotected"]


def test_a_ratio_is_the_mean_over_the_cases_of_medians_over_the_rounds():
    runs = [run("plover", rate, n) for n, rate in enumerate((1, 8, 90))] + [run("remus-25ms", 2)]
    runs += [run("plover", 9, workload="redis-get-p1"), run("remus-25ms", 9, workload="redis-get-p1")]
    assert ratio(runs, "requests_per_s", "remus-25ms") == pytest.approx(2.0)  # 8 / 2 and 9 / 9
    alone = run("plover", 1, workload="web-shop")
    assert ratio(runs + [alone], "requests_per_s", "remus-25ms") == pytest.approx(2.0)
    assert ratio([run("plover", 1), run("remus-25ms", 1, workload="web-shop")], "requests_per_s", "remus-25ms") is None
    others = [run("plover", 1, mbit_per_s=10_000), run("plover", 1, workload="redis-upload"), run("remus-25ms", 9, workload="redis-upload")]
    assert ratio(runs + others, "requests_per_s", "remus-25ms") == pytest.approx(2.0)
    assert set(ratios(runs)) == {
        "throughput_vs_colo",
        "throughput_vs_remus_25ms",
        "throughput_vs_unprotected",
        "throughput_vs_plain_links",
        "wire_bytes_per_request_vs_remus_25ms",
        "pause_p50_vs_colo",
        "added_latency_ms_p50",
        "added_latency_ms_p99",
    }


def test_this_machines_limit_is_two_vms_and_the_clients():
    of = {"cpu_us_per_request_of": {"primary vm": 60.0}, "cpu_us_per_request": 60.0, "client_cpu_us_per_request": 80.0}
    runs = [run("unprotected", 9_000, **of), run("plover", 5_000, **of)]
    labels = {"workload": "redis-set-p1", "vcpus": 1, "mbit_per_s": 1000}
    assert costs.limit_per_s(runs, 2, **labels) == pytest.approx(10_000)
    assert costs.limit_per_s(runs, 2, **labels | {"vcpus": 2}) is None
    (row,) = [row for row in costs.table(runs, 2) if " plover " in row]
    assert "primary vm 60, clients 80" in row and "50 % of 10,000/s" in row
    assert costs.per_request({"primary vm": 0.5, "witness vm": 0.0}, 0.25, 1_000) == {
        "cpu_us_per_request": 500.0,
        "client_cpu_us_per_request": 250.0,
        "cpu_us_per_request_of": {"primary vm": 500.0},
    }


def test_added_latency_is_that_of_one_client_alone():
    alone = {"workload": "redis-one-client"}
    runs = [run("plover", 1, p50_ms=p50, **alone) for p50 in (3.0, 9.0, 4.0)] + [run("unprotected", 1, p50_ms=0.5, **alone)]
    assert ratios(runs)["added_latency_ms_p50"] == pytest.approx(3.5)
    assert ratios([*runs[:3], run("unprotected", 1)])["added_latency_ms_p50"] is None


def test_what_is_not_about_throughput_is_run_in_one_case():
    assert belongs("redis-upload", LABELS | {"guest": "memory", "vcpus": 1, "mbit_per_s": 1_000})
    assert not belongs("redis-upload", LABELS | {"guest": "memory", "vcpus": 2, "mbit_per_s": 1_000})
    assert belongs("web-shop", LABELS | {"guest": "memory", "vcpus": 2, "mbit_per_s": 1_000})
    assert not belongs("web-shop", LABELS | {"guest": "disk", "vcpus": 1, "mbit_per_s": 1_000})


def test_figures_of_syncvms_are_those_of_the_load():
    syncvms = [{"number": n, "pause_ms": n, "dirty_pages": 100, "divergent_pages": 25, "bytes": 7, "at_s": n / 10} for n in range(1, 6)]
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


def test_what_is_printed_names_every_run():
    runs = [run("plover", 5.0), run("unprotected", 9.0)]
    assert "unprotected" in line(runs[1]) and len([row for row in table(runs) if "redis-set-p1" in row]) == 2
