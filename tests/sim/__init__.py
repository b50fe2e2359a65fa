# SPDX-License-Identifier: GPL-3.0-or-later
"""A deterministic simulator: the daemons' own core under simulated clocks, network, disks, QEMUs and memory.

One seed is one run. `loop` is time, `guest` what runs in the VM, `host` one host with its daemon's shell, `network` the
wires, `disk` the durable state's files, `clients` who use the VM, `faults` what goes wrong, `ghost` what must never be.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
for folder in (ROOT, ROOT / "plugins" / "module_utils"):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
