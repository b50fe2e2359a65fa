# SPDX-License-Identifier: GPL-3.0-or-later
"""Real faults on real hosts: `python3 -m lab.chaos --rounds N`. Start at `runner.py`; the faults are in `faults.py`."""

from __future__ import annotations

import sys

from ..paths import ROOT

sys.path.insert(0, str(ROOT / "plugins/module_utils"))  # the daemons are asked as the Ansible modules ask them
