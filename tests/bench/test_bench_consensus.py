# SPDX-License-Identifier: GPL-3.0-or-later
"""The benchmark measures what it says: real commits, on all members, and it refuses to report anything else.

Times do not matter. etcd is left out, as it would have to be downloaded; PySyncObj is used if it is installed.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys

import pytest

from bench import consensus, grpc, ours, packages, pysync
from bench.load import COMMAND_BYTES, BenchError, ClosedLoop, Figures, Load, command_of
from lab.paths import ROOT


def end(**changes):
    return {"index": 7, "commands": 9, "crc": 5, "figures": [], **changes}


LONG = Load(2, 0.0, 60.0)


class Hand:
    """A system that commits by hand."""

    def __init__(self, load):
        self.handed = []
        self.loop = ClosedLoop(load, lambda client, command: self.handed.append(command))
        self.loop.start()


def test_a_run_counts_what_all_members_hold(tmp_path):
    systems = [ours.NAME] + [pysync.NAME] * (importlib.util.find_spec("pysyncobj") is not None)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "bench.consensus",
            "--systems",
            ",".join(systems),
            "--rounds",
            "1",
            "--seconds",
            "0.3",
            "--out",
            str(tmp_path),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "consensus-runs.json").read_text())
    for name in systems:
        one, many = result["systems"][name]["rounds"][0]
        assert (one["clients"], many["clients"]) == (1, 64)
        assert one["total"] >= 0.3 * one["commits_per_s"] > 0
        assert many["total"] >= 0.3 * many["commits_per_s"] > 0
        assert 0 < one["p50_us"] <= one["p99_us"]
        assert name in done.stdout
    keys = {"p50_vs_pysyncobj_1", "throughput_vs_pysyncobj_64"} if pysync.NAME in systems else set()
    assert set(json.loads((tmp_path / "consensus.json").read_text())) == keys


def test_a_client_has_one_command_outstanding_and_goes_on_at_its_commit():
    hand = Hand(LONG)
    assert [command_of(command) for command in hand.handed] == [(0, 1), (1, 1)]
    assert {len(command) for command in hand.handed} == {COMMAND_BYTES}
    hand.loop.committed(1, 1)
    assert command_of(hand.handed[-1]) == (1, 2)
    assert (hand.loop.total, hand.loop.outstanding, hand.loop.done) == (1, 2, False)


@pytest.mark.parametrize("commits", [[(0, 1), (0, 1)], [(0, 2)], [(0, 0)]])
def test_a_command_that_commits_twice_or_was_never_handed_over_ends_the_run(commits):
    hand = Hand(LONG)
    with pytest.raises(BenchError, match="was outstanding"):
        for client, number in commits:
            hand.loop.committed(client, number)


def test_what_commits_during_the_warm_up_or_too_late_is_counted_but_not_measured():
    for load in (Load(2, 60.0, 1.0), Load(2, 0.0, 0.0)):
        hand = Hand(load)
        for client in (0, 1):
            hand.loop.committed(client, 1)
        assert hand.loop.total == 2
        with pytest.raises(BenchError, match="0 commits"):
            hand.loop.figures()


@pytest.mark.parametrize("changes", [{"index": 6}, {"commands": 8}, {"crc": 6}])
@pytest.mark.parametrize("member", ours.MEMBERS)
def test_a_log_that_differs_is_no_result(member, changes):
    ends = {name: end(figures=[[1, 1.0, 1.0, 1.0, 9]] if name == ours.LEADS else []) for name in ours.MEMBERS}
    ours.check(ends)
    ends[member] |= changes
    with pytest.raises(BenchError, match="logs differ"):
        ours.check(ends)


def test_commits_that_are_not_in_the_log_are_no_result():
    with pytest.raises(BenchError, match="10 commands counted"):
        ours.check({name: end(figures=[[1, 1.0, 1.0, 1.0, 10]]) for name in ours.MEMBERS})


def test_ratios_are_ours_divided_by_theirs_over_the_medians():
    def rounds(*pairs):
        return [[Figures(1, 1.0, p50, 1.0, 1), Figures(64, rate, 1.0, 1.0, 1)] for p50, rate in pairs]

    runs = {
        "plover": rounds((100, 90), (200, 60), (300, 30)),
        "etcd": rounds((400, 10), (9000, 20), (5, 2000)),
        "pysyncobj": rounds((50, 120)),
    }
    assert consensus.ratios(runs) == {
        "p50_vs_etcd_1": 0.5,
        "throughput_vs_etcd_64": 3.0,
        "p50_vs_pysyncobj_1": 4.0,
        "throughput_vs_pysyncobj_64": 0.5,
    }
    assert [line.split(": ")[-1] for line in consensus.verdicts(consensus.ratios(runs))[:2]] == ["met)", "MISSED)"]


def test_protocol_buffers_there_and_back():
    message = grpc.field(1, b"key") + grpc.field(2, b"v" * 1024) + grpc.field(3, 2**40 + 5) + grpc.field(17, 0)
    assert grpc.fields(message) == {1: b"key", 2: b"v" * 1024, 3: 2**40 + 5, 17: 0}
    with pytest.raises(BenchError, match="wire type 5"):
        grpc.fields(bytes([1 << 3 | 5, 0, 0, 0, 0]))


def test_etcd_packages_are_named_in_the_requirements():
    assert {"etcd-server", "etcd-client"} <= set(packages.LIST.read_text().split())
