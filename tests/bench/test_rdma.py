# SPDX-License-Identifier: GPL-3.0-or-later
"""`make bench-rdma` reads perftest correctly, compares like with like, and gives no result when a figure is missing.
A real run, in guests: tests/rdma/test_bench.py.
"""

from __future__ import annotations

import json
import sys

import pytest

from bench import rdma as bench
from bench.load import BenchError
from bench.rdma import BUSY, COMMIT, FRAMES, PAGES, PYTHON, WRITE_BW, WRITE_LAT

RULE = "-" * 87 + "\n"
LATENCY = (
    RULE
    + " Mtu             : 1024[B]\n"
    + RULE
    + " #bytes #iterations    t_min[usec]    t_max[usec]  t_typical[usec]    t_avg[usec]    t_stdev[usec]   "
    "99% percentile[usec]   99.9% percentile[usec] \n"
    " 136     1000          127.66         8078.16      221.67   \t    1469.87     \t1726.53\t\t6368.43 \t8078.16\n" + RULE
)
BANDWIDTH = (
    RULE + " #bytes     #iterations    BW peak[MB/sec]    BW average[MB/sec]   MsgRate[Mpps]\n"
    " 262144     100              19.98              19.18  \t\t   0.000077\n" + RULE
)
ROUND = {WRITE_LAT: 100.0, COMMIT: 150.0, BUSY: 120.0, PYTHON: 240.0, WRITE_BW: 60.0, FRAMES: 54.0, PAGES: 63.0}


def rounds(**columns: tuple[float, ...]) -> list[dict]:
    return [ROUND | {name: values[n] for name, values in columns.items()} for n in range(3)]


def test_perftests_rows_are_read_by_the_names_of_their_columns():
    latency = bench.row_of(LATENCY, "ib_write_lat")
    assert latency["#bytes"] == 136 and latency["t_typical[usec]"] == 221.67 and latency["99% percentile[usec]"] == 6368.43
    bandwidth = bench.row_of(BANDWIDTH, "ib_write_bw")
    assert bandwidth["BW average[MB/sec]"] == 19.18 and bandwidth["MsgRate[Mpps]"] == 0.000077


def test_perftests_megabytes_are_of_2_to_the_20():
    row = bench.row_of(BANDWIDTH, "ib_write_bw")
    by_messages = row["MsgRate[Mpps]"] * row["#bytes"]
    assert row["BW average[MB/sec]"] * bench.PERFTEST_MB / 1e6 == pytest.approx(by_messages, rel=0.01)


@pytest.mark.parametrize(
    "output",
    [
        "",
        "Couldn't connect to 192.168.77.11:18515\n",
        LATENCY.split(" 136 ")[0],
        LATENCY.replace("127.66", ""),
        LATENCY.replace("221.67", "soon"),
    ],
    ids=["nothing", "no peer", "no row", "a column less", "no number"],
)
def test_output_without_all_figures_is_no_result(output):
    with pytest.raises(BenchError, match="ib_write_lat printed"):
        bench.row_of(output, "ib_write_lat")


@pytest.mark.parametrize("output", ["", "{}", "[]", '{"p50_us": null}', '{"p50_us": "x"}'])
def test_our_programs_output_without_its_figure_is_no_result(output):
    with pytest.raises(BenchError, match="no p50_us in"):
        bench.figure_of(output, "p50_us")


def test_a_frame_is_as_long_as_the_library_writes_it():
    assert bench.FRAME == 24 + 104 + 8


def test_ratios_are_the_medians_of_the_rounds_own_and_the_best_rounds_are_told_too():
    found = bench.figures(rounds(**{WRITE_LAT: (100, 4000, 3000), COMMIT: (160, 150, 500), WRITE_BW: (50, 100, 60), PAGES: (54, 60, 57)}))
    assert found["of_medians"]["commit_vs_write_lat"] == round(160 / 3000, 3)
    assert found["of_best_rounds"]["commit_vs_write_lat"] == 1.5
    assert found["commit_vs_write_lat"] == round(500 / 3000, 3) and found["transfer_vs_write_bw"] == 0.95
    assert found["of_medians"]["transfer_vs_write_bw"] == 0.95
    assert found["of_best_rounds"]["transfer_vs_write_bw"] == 0.6
    assert found["medians"][PAGES] == 57 and [one[COMMIT] for one in found["rounds"]] == [160, 150, 500]


def test_the_table_says_whether_the_aims_are_met_and_where_it_was_measured():
    found = bench.figures([ROUND]) | {"cpu": "a CPU", "cores": 2, "others_percent": 3.0}
    text = "\n".join(bench.table(found))
    assert "one vCPU each" in text and "TCG" in text and "spoil" not in text
    assert "commit_vs_write_lat = 1.5 " in text and text.count(": met)") == 2
    found = bench.figures([ROUND | {COMMIT: 201.0, PAGES: 47.0}]) | {"cpu": "a CPU", "cores": 2, "others_percent": 40.0}
    text = "\n".join(bench.table(found))
    assert text.count(": MISSED)") == 2 and "they spoil the figures" in text


@pytest.mark.parametrize("name", list(ROUND))
@pytest.mark.parametrize("value", [None, 0.0, -1.0, float("nan"), float("inf")])
def test_a_round_without_a_figure_is_no_result(name, value):
    one = {key: number for key, number in ROUND.items() if key != name} | ({} if value is None else {name: value})
    with pytest.raises(BenchError, match=f"no result without {name} in round 2"):
        bench.figures([ROUND, one])


def test_without_a_result_the_command_fails_and_writes_nothing(monkeypatch, tmp_path, capsys):
    def fail(_):
        raise BenchError("ib_write_bw ended with 1: no device")

    monkeypatch.setattr(sys, "argv", ["rdma", "--out", str(tmp_path / "out")])
    monkeypatch.setattr(bench, "run", fail)
    assert bench.main() == 1
    assert "bench-rdma: ib_write_bw ended with 1" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_the_result_is_written(monkeypatch, tmp_path):
    found = bench.figures([ROUND]) | {"cpu": "a CPU", "cores": 2, "others_percent": 3.0}
    monkeypatch.setattr(sys, "argv", ["rdma", "--out", str(tmp_path)])
    monkeypatch.setattr(bench, "run", lambda options: found)
    assert bench.main() == 0
    written = json.loads((tmp_path / "rdma.json").read_text())
    assert {"commit_vs_write_lat", "transfer_vs_write_bw", "copied_vs_write_bw", "rounds"} <= set(written)
