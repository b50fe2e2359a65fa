# SPDX-License-Identifier: GPL-3.0-or-later
"""The benchmark of syncvms measures real ones, and would notice a system that finds no writes. Times are not looked at."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from bench import footprint, scale, scale_page
from bench.load import BenchError
from bench.scale_figures import memory_checks, slopes, table
from lab.paths import ROOT

SMAPS = """7f0000000000-7f0040000000 rw-s 00000000 00:1a 5    /dev/shm/x/bench.ram
Rss:              102400 kB
Private_Clean:      1024 kB
Private_Dirty:     90000 kB
VmFlags: rd wr sh mr
7f0050000000-7f0060000000 rw-p 00000000 00:00 0
Rss:               20480 kB
Private_Clean:      2048 kB
Private_Dirty:      4096 kB
VmFlags: rd wr mr
7f0070000000-7f0080000000 r-xp 00000000 00:00 7    /usr/lib/libc.so.6
Rss:                1024 kB
Private_Clean:      1024 kB
Private_Dirty:         0 kB
"""


def run(mib: int, pages: int, work_ms: float, vcpus: int = 1, **parts: float) -> dict:
    return {
        "mib": mib,
        "vcpus": vcpus,
        "pages": pages,
        "dirty_pages": pages + 100,
        "divergent_pages": 50,
        "bytes": 7,
        "pause_ms": work_ms + 5,
        "waited_ms": 5.0,
        "work_ms": work_ms,
        "stood_ms": work_ms,
        "staged_ms": work_ms + 1,
        "parts_ms": {"leader": parts, "secondary": {}},
    }


def guest(secondary_qemu: float = 90.0, daemon: float = 20.0, ram_file: float = 200.0) -> dict:
    names = [f"{host} {what}" for host in ("primary", "secondary") for what in ("daemon", "qemu")]
    took = {name: {"private": 90.0 if name.endswith("qemu") else 20.0, "ram": 200.0} for name in names}
    took["secondary qemu"]["private"] = secondary_qemu
    return {
        "mib": 256,
        "vcpus": 1,
        "processes": took,
        "ram_file_mib": {"primary": 256.0, "secondary": ram_file},
        "peak_anonymous_mib": {name: daemon for name in names},
        "audit_peak_anonymous_mib": dict.fromkeys(names, 9.0),
    }


def test_a_small_run_of_a_real_pair(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "bench.scale", "--guests", "256:1:0+512", "--syncvms", "1", "--out", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "scale.json").read_text())
    assert [entry["pages"] for entry in result["runs"]] == [0, 512]
    for entry in result["runs"]:
        assert entry["dirty_pages"] >= entry["pages"] and entry["dirty_pages"] >= entry["divergent_pages"]
        assert 0 < entry["work_ms"] <= entry["pause_ms"] and entry["staged_ms"] > 0
        for side in ("leader", "secondary"):
            assert {"fetch_dirty", "pack_bitmap", "union", "hash"} <= set(entry["parts_ms"][side])
    assert result["slopes"]["us_per_dirty_page"] is not None and result["slopes"]["ns_per_mib"] is None
    took = result["memory"]["guests"][0]["processes"]
    assert set(took) == {f"{host} {what}" for host in ("primary", "secondary") for what in ("daemon", "qemu")}
    assert all(entry["private"] > 1 and entry["ram"] > 1 for entry in took.values())
    assert "512 pages written" in done.stdout and "<svg" in (tmp_path / "scale.html").read_text()


class Writer:
    def write(self, pages: int) -> None:
        pass


def test_writes_that_no_syncvm_found_are_no_result(monkeypatch):
    class Blind:
        """Its syncvms find three pages, whatever was written."""

        count = 0

        def syncvms(self) -> list[dict]:
            self.count += 1
            return [{"number": min(2, self.count), "dirty_pages": 3}]

    monkeypatch.setattr(scale, "QUIET_S", 0.01)
    with pytest.raises(BenchError, match="wrote 100 pages, and the . syncvms since then found"):
        scale.one_syncvm(Blind(), Writer(), 100)


def test_syncvms_without_an_end_are_no_result(monkeypatch):
    class Busy:
        count = 0

        def syncvms(self) -> list[dict]:
            self.count += 1
            return [{"number": self.count}]

    monkeypatch.setattr(scale, "RECORDED_S", 0.1)
    with pytest.raises(BenchError, match="do not end"):
        scale.settled(Busy())


def test_slopes_are_those_of_the_medians_of_cells_that_differ_in_one_thing():
    runs = [run(1024, pages, 2 + pages / 1000) for pages in (0, 1000, 4000)] + [run(1024, 0, 50, vcpus=4)]
    runs += [run(1024, 4000, 1.0), run(1024, 4000, 99.0)]  # the median stays
    runs += [run(256, 0, 2 - 0.768, scan=0.1), run(4096, 0, 2 + 3.072, scan=4.0)]
    found = slopes(runs)
    assert found["us_per_dirty_page"] == pytest.approx(1.0) and found["ns_per_mib"] == pytest.approx(1000)
    assert found["parts"]["leader scan"]["us_per_dirty_page"] == 0
    assert slopes([run(256, 0, 1.0)])["ns_per_mib"] is None


def test_runs_in_which_the_vms_had_not_done_the_same_are_told_apart():
    runs = [run(1024, pages, 2 + pages / 1000) for pages in (0, 1000, 4000)]
    runs += [{**run(1024, 4000, 14.0), "divergent_pages": 4000}, {**run(1024, 4000, 1.0), "dirty_pages": 90}]
    found = slopes(runs)
    assert found["us_per_dirty_page"] == pytest.approx(1.0) and found["us_per_divergent_page"] == pytest.approx(2.0)
    assert slopes(runs[:3])["us_per_divergent_page"] is None and slopes(runs[:1])["us_per_divergent_page"] is None


def test_the_wait_for_the_secondarys_vm_is_taken_off_but_not_the_leaders_own_work():
    leader = {"drained": 1.0, "sent Bitmap": 1.002, "got Bitmap": 1.012, "device_saved": 1.004}
    assert scale.wait_ms(leader, {"drained": 1.010}, 15) == pytest.approx(10)
    assert scale.wait_ms(leader, {"drained": 1.010}, 13) == pytest.approx(9)  # the device state took until then
    assert scale.wait_ms(leader, {"drained": 0.9}, 15) == 0  # it was idle first: a slow scan or network


def test_how_long_the_vm_stood_still_is_qemus_word():
    assert scale.stood_ms({"STOP": 5.0, "RESUME": 5.008}, 3.0) == pytest.approx(5.0)
    assert scale.stood_ms({"STOP": 5.0, "RESUME": 4.0}, 0.0) is None and scale.stood_ms({}, 0.0) is None


def test_memory_beside_the_ram_file_is_what_counts():
    assert footprint.of_smaps(SMAPS, "/dev/shm/x/bench.ram") == footprint.Footprint(7.0, 100.0)


@pytest.mark.parametrize(
    "changes, missed",
    [
        ({}, []),
        ({"secondary_qemu": 346.0}, ["beyond the primary's"]),
        ({"daemon": 80.0}, ["primary daemon", "secondary daemon"]),
        ({"ram_file": 512.0}, ["secondary's RAM file"]),
    ],
)
def test_a_second_copy_of_the_guest_is_noticed(changes, missed):
    found = [row["what"] for row in memory_checks([guest(**changes)]) if not row["met"]]
    assert len(found) == len(missed) and all(part in what for part, what in zip(missed, found))


def test_a_guest_for_which_there_is_no_room_is_left_out_and_said_so():
    assert "skipped: two guests of 9999999 MiB" in scale.no_room(scale.Guest(9_999_999, 1, (0,)))
    assert scale.no_room(scale.Guest(32, 1, (0,))) is None


def test_table_and_page_say_what_was_missed_and_what_not_measured():
    runs = [run(256, 0, 1.5, hash=0.2), run(256, 1000, 2.5)]
    memory = {"guests": [guest(ram_file=512.0)], "checks": memory_checks([guest(ram_file=512.0)])}
    result = {"slopes": slopes(runs), "memory": memory, "skipped": ["skipped: <4096>"], "runs": runs}
    text = "\n".join(table(result))
    assert "ns_per_mib: not measured" in text and "limit 256.0: MISSED" in text and "us_per_dirty_page: 1.0" in text
    page = scale_page.page(result, "about")
    assert "MISSED" in page and page.count("<circle") == 3 and "<4096>" not in page
