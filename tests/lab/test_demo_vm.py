# SPDX-License-Identifier: GPL-3.0-or-later
"""A Debian with a boot loader of its own, imported from a libvirt domain, outlives its host: `make demo-vm`, and what it leaves behind."""

from __future__ import annotations

import json
import subprocess
import sys

from lab.demo_vm import DEMO, good
from lab.hosts import CLIENT, NETNS
from lab.paths import ROOT

IDLE_LAG_PERCENT_MAX = 2.0  # aim: 0.1; a busy machine delays the one syncvm in ten seconds that an idle guest has


def test_downloads_and_an_ssh_session_outlive_the_host():
    subprocess.run([sys.executable, "-m", "lab.demo_vm"], cwd=ROOT, check=True, timeout=1500)
    result = json.loads((DEMO / "result.json").read_text())
    assert good(result), result
    assert result["downloads"] > 10 and result["requests"] > 50 and result["lines"] > 50
    assert result["clock_lag_percent_idle"] < IDLE_LAG_PERCENT_MAX, result
    left = subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True).stdout.split()
    assert NETNS not in left and CLIENT not in left
