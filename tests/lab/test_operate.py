# SPDX-License-Identifier: GPL-3.0-or-later
"""A failover as an operator sees it: `make demo-operate`, and what it leaves behind."""

from __future__ import annotations

import json
import struct
import subprocess
import sys

from lab.demo_operate import DEMO, PAGE_S_MAX
from lab.hosts import CLIENT, NETNS
from lab.operate.page import SIZES
from lab.paths import ROOT

KEYS = ("alert_fired", "alert_resolved", "page_showed_failover_s", "hook_ran", "metrics", "promtool_ok", "screenshots")
WHEN, LOOKS = ("protected", "degraded", "protected-again"), ("light", "dark")
METRICS_MIN = 40


def width(png: bytes) -> int:
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">I", png[16:20])[0]


def test_the_operator_is_told_of_a_failover_and_sees_it():
    subprocess.run([sys.executable, "-m", "lab.demo_operate"], cwd=ROOT, check=True, timeout=1400)
    result = json.loads((DEMO / "result.json").read_text())
    assert tuple(result) == KEYS
    assert {result[key] for key in ("alert_fired", "alert_resolved", "hook_ran", "promtool_ok")} == {True}
    assert 0 < result["page_showed_failover_s"] <= PAGE_S_MAX and result["metrics"] >= METRICS_MIN
    assert set(result["screenshots"]) == {f"{what}-{look}-{size}.png" for what in WHEN for look in LOOKS for size in SIZES}
    for name in result["screenshots"]:
        pixels, _height, phone = SIZES[name.rpartition("-")[2].removesuffix(".png")]
        assert width((DEMO / name).read_bytes()) == pixels * (2 if phone else 1)
    assert subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True).stdout.split().count(NETNS) == 0
    assert CLIENT not in subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True).stdout.split()
