# SPDX-License-Identifier: GPL-3.0-or-later
"""What the block layer asks of QEMU's monitor; qemu/qmp.py is it."""

from __future__ import annotations

from typing import Any, Protocol


class Monitor(Protocol):
    async def execute(self, command: str, oob: bool = False, **arguments: Any) -> Any:
        """QEMU's answer. Raises QemuError. ``oob``: answered even while QEMU's main loop is stuck."""
