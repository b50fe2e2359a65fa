# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of tested QEMUs: each file's newest result counts once, and a skipped test counts for nothing."""

from __future__ import annotations

import json

import pytest

from lab import engines

TEN = {"qemu": "10.0.13", "accel": "tcg", "kernel": "6.18", "tracking": "uffd-wp"}
SEVEN = {**TEN, "qemu": "7.2.22"}


def test_rows_are_sums_over_files_and_the_newest_result_of_a_file_counts(tmp_path):
    engines.write_row(tmp_path, TEN, {"main_job": (20, 1), "disks": (12, 0)})
    engines.write_row(tmp_path, SEVEN, {"main_job": (20, 0)})
    engines.write_row(tmp_path, TEN, {"main_job": (21, 0)})
    rows = json.loads((tmp_path / "result.json").read_text())
    assert sorted((row["qemu"], row["tests"], row["failed"]) for row in rows) == [("10.0.13", 33, 0), ("7.2.22", 20, 0)]
    assert all(set(row) == {*TEN, "tests", "failed"} for row in rows)


REPORT = b'<testsuites><testsuite tests="7" failures="1" errors="1" skipped="2"/></testsuites>'


def test_a_report_is_counted_without_its_skipped_tests():
    assert engines.counted(REPORT, 1) == (5, 2)


@pytest.mark.parametrize(("report", "status", "expected"), [(REPORT, 2, (6, 3)), (REPORT, 124, (6, 3)), (b"", 0, (1, 1)), (b"", 2, (1, 1))])
def test_a_run_that_was_broken_off_counts_as_failed(report, status, expected):
    assert engines.counted(report, status) == expected


def test_a_machine_with_another_qemu_is_told(monkeypatch):
    monkeypatch.setattr(engines, "version", lambda program: "8.2.1")
    with pytest.raises(SystemExit, match="is QEMU 8.2.1, wanted 7.2; this machine must be a Debian 12"):
        engines.binary("7.2")
