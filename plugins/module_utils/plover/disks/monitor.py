# SPDX-License-Identifier: GPL-3.0-or-later
"""The monitor port of the block layer; qemu/qmp.py implements it."""

from __future__ import annotations

from typing import Any, Protocol


class Monitor(Protocol):
    pid: int  # QEMU's

    async def execute(self, command: str, **arguments: Any) -> Any:
        """QEMU's answer. Raises QemuError."""

    async def execute_out_of_band(self, command: str, **arguments: Any) -> Any:
        """The same, but answered even while QEMU's main loop is stuck. Few commands can do that."""
