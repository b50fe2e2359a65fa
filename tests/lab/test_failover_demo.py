# SPDX-License-Identifier: GPL-3.0-or-later
"""The main job on three systemd hosts: `make demo`, and what it leaves behind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from lab.hosts import CLIENT, HOSTS, NETNS, cgroup_folders, netns_name
from lab.paths import BUILD, LAB, ROOT


def test_the_demo_loses_nothing_and_leaves_nothing():
    subprocess.run([sys.executable, "-m", "lab.demo"], cwd=ROOT, check=True, timeout=600)
    result = json.loads((BUILD / "demo" / "result.json").read_text())
    assert result["acked"] > 1000 and result["syncvms"] > 20  # one a second at least
    assert {k: result[k] for k in ("lost", "connections_broken", "ram_pages_mismatching", "redeploy_changed")} == {
        "lost": 0,
        "connections_broken": 0,
        "ram_pages_mismatching": 0,
        "redeploy_changed": 0,
    }
    assert result["reprotected"] is True and 0 < result["outage_ms"] < 1500
    assert [n for n in (NETNS, CLIENT, *map(netns_name, HOSTS)) if Path("/run/netns", n).exists()] == []
    assert [g for host in HOSTS for g in cgroup_folders(host) if g.exists()] == []
    assert not any(f"{netns_name(host)} " in Path("/proc/self/mounts").read_text() for host in HOSTS)
    assert not (LAB / "hosts").exists() or list((LAB / "hosts").iterdir()) == []
