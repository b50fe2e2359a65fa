# SPDX-License-Identifier: GPL-3.0-or-later
"""How a copy of the disks begins: the leader asks for it by name; before that, nobody can write to the secondary's images.

An empty secondary may wait for a long time, for instance for a leader that still merges its own overlays. Its images are
still whole then, and the only whole ones if that leader is lost. So they are marked incomplete and exported only when the
leader begins. The copy's name is what the secondary told the leader in its join request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from ..errors import QemuError


class CopyGate:
    """The secondary's side, one for each empty QEMU. ``begin()`` makes the images ready for the copy ``name``."""

    def __init__(self, name: str, begin: Callable[[], Awaitable[None]]) -> None:
        self.name, self._begin = name, begin
        self._begun: asyncio.Future[None] | None = None
        self._closed = False

    @property
    def begun(self) -> bool:
        return self._begun is not None

    async def take(self, name: str) -> None:
        """Returns once the images are ready for the copy ``name``; each of its streams asks. Raises QemuError."""
        if self._closed:
            raise QemuError("this host waits for no copy")
        if name != self.name:
            raise QemuError("that is not the copy that this host asked for")
        if self._begun is None:
            self._begun = asyncio.ensure_future(self._begin())
        try:
            await asyncio.shield(self._begun)  # one that goes away does not take the others with it
        except (QemuError, OSError) as error:
            raise QemuError(f"its images cannot be made ready: {error}") from error
        if self._closed:
            raise QemuError("the QEMU that waited for this copy is gone")

    def close(self) -> None:
        """No stream begins from now on."""
        self._closed = True
