# SPDX-License-Identifier: GPL-3.0-or-later
"""`make attack`: everybody who could harm a deployed group tries to. None succeeds, and each was really carried out."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from lab.attack.runner import ATTACK, ATTACKS
from lab.attack.stage import EVIL
from lab.hosts import CLIENT, HOSTS, NETNS, netns_name
from lab.paths import ROOT


def test_no_attack_succeeds_and_nothing_is_left():
    (ATTACK / "result.json").unlink(missing_ok=True)
    done = subprocess.run([sys.executable, "-m", "lab.attack"], cwd=ROOT, check=False, timeout=1450, capture_output=True, text=True)
    result = json.loads((ATTACK / "result.json").read_text())
    assert (result["succeeded"], result["names"], result["errors"]) == (0, [], []), done.stdout[-12_000:]
    assert result["attacks"] == len(ATTACKS) and done.returncode == 0
    assert [n for n in (EVIL, NETNS, CLIENT, *map(netns_name, HOSTS)) if Path("/run/netns", n).exists()] == []
