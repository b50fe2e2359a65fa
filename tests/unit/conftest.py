# SPDX-License-Identifier: GPL-3.0-or-later
"""What the unit tests share: helpers in ``support``, and the fixtures of hosts with control sockets and of the simulator."""

from __future__ import annotations

import gc
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "support"))

from ctl_host import folder, host  # noqa: F401
from several_vms import daemons  # noqa: F401

from tests.sim.small import small_pages  # noqa: F401


def pytest_collection_finish():
    """Thousands of collected tests live to the end: nothing for the garbage collector to look at again and again."""
    gc.collect()
    gc.freeze()
