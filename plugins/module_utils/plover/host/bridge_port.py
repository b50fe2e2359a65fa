# SPDX-License-Identifier: GPL-3.0-or-later
"""The port of a TAP in its bridge, as the kernel has it (Documentation/networking/bridge.rst; net/bridge/br_sysfs_if.c)."""

from __future__ import annotations

from pathlib import Path

STATES = ("disabled", "listening", "learning", "forwarding", "blocking")
FORWARDING, OF_A_SPANNING_TREE = "forwarding", ("listening", "learning", "blocking")


def state(tap: str, root: Path = Path("/sys/class/net")) -> str:
    """One of STATES; empty if the TAP is in no bridge of the kernel, so that nobody can tell (an own network_ifup script)."""
    try:
        return STATES[int((root / tap / "brport/state").read_text())]
    except (OSError, ValueError, IndexError):
        return ""
