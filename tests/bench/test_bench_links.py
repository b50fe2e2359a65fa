# SPDX-License-Identifier: GPL-3.0-or-later
"""The benchmark of links sends what it says, with TLS and without, and reports both. Times do not matter."""

from __future__ import annotations

import json
import subprocess
import sys

from lab.paths import ROOT


def test_a_run_measures_both_and_their_ratio(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "bench.links", "--mib", "4", "--turns", "20", "--rounds", "1", "--out", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "links.json").read_text())
    figures = {"gib_per_s", "cpu_s_per_gib_sender", "cpu_s_per_gib_receiver", "turn_us_p50", "turn_us_p99"}
    assert set(found["none"]) == set(found["tls"]) == set(found["tls_vs_none"]) == figures
    assert all(found[kind][key] > 0 for kind in ("none", "tls") for key in figures)
    assert "tls / none" in done.stdout
