# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs of the host that the daemon runs, each for a bounded time."""

from __future__ import annotations

import asyncio
import contextlib
from asyncio.subprocess import Process


async def ended(process: Process, seconds: float, given: bytes | None = None) -> tuple[bytes, bytes]:
    """What it says on its two outputs, once it has ended. Raises asyncio.TimeoutError after ``seconds``, and kills it."""
    try:
        return await asyncio.wait_for(process.communicate(given), seconds)
    except asyncio.TimeoutError:
        with contextlib.suppress(ProcessLookupError):  # it ended meanwhile: the daemon itself may have hung, and learns both at once
            process.kill()
        raise
