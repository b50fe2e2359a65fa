# SPDX-License-Identifier: GPL-3.0-or-later
"""Can the simulator fail? Each mutant breaks the code on purpose, in one place, and must be caught. Only this package can switch
one on.
"""

from __future__ import annotations

from . import agreed, daemon, disks, ends, memory, output, votes  # noqa: F401 - each adds its mutants to the list
from .registry import MUTANTS

__all__ = ["MUTANTS"]
