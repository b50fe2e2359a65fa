# SPDX-License-Identifier: GPL-3.0-or-later
"""A deterministic simulator: the daemons' own core under simulated clocks, network, disks, QEMUs and memory.

One seed is one run. `loop` keeps time, `guest` runs in the VM, `host` is one host, `replica` and `witness` are its daemon, `network`
carries messages, `disk` holds the durable state, `clients` use the VM. `plan` injects the `faults`, `ghost` checks the invariants.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
for folder in (ROOT, ROOT / "plugins" / "module_utils"):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
