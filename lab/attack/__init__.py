# SPDX-License-Identifier: GPL-3.0-or-later
"""Attacks on a deployed lab: `make attack`. Start at `runner.py`; one file for each kind of attacker.

Each attack is one function that returns an Outcome. It is bounded, ends by itself, and judges by its effect: what the attacker has
got hold of, not what a setting says. Whatever the function says, an attack has succeeded as well if it ended a daemon or a QEMU,
caused a failover, left the VM without protection, or cost its clients an acknowledged write (`group.py`).
"""

from __future__ import annotations

import sys

from ..paths import ROOT

sys.path.insert(0, str(ROOT / "plugins/module_utils"))  # attackers speak as members do
