# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest is asked for its multicast groups after a failover: Linux's own network stack answers these questions."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from lab.netns import alone

ROOT = Path(__file__).resolve().parents[2]


def test_linux_answers_at_once_with_each_of_its_groups_and_stays_with_its_version():
    found = json.loads(alone(sys.executable, str(Path(__file__).with_name("multicast_probe.py")), str(ROOT))[0])
    assert "239.1.2.3" in found["asked"] and "ff15::77" in found["asked"], found
    assert any(group.startswith("ff02::1:ff") for group in found["asked"]), found
    assert found["unasked"] == [], found  # the same answers did not come by chance
    assert found["igmp"] == "V3"
