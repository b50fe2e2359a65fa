# SPDX-License-Identifier: GPL-3.0-or-later
"""How a copy of the disks begins: the leader knocks at the secondary's disk port; before that, nobody can write there.

An empty secondary may wait for a long time, for instance for a leader that still merges its own overlays. Its images are
still whole then, and the only whole ones if that leader is lost. So they are marked incomplete and exported only when the
leader begins. The leader proves itself by the copy's name, which the secondary told it over their authenticated link.

A secondary of an earlier version exports at once: its QEMU answers the knock with an NBD server's greeting. A leader of an
earlier version does not knock: its QEMU finds no NBD server at first, says nothing, and finds one when it tries again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

from ..errors import QemuError

log = logging.getLogger("plover")
GREETING, NBD_GREETING, READY = b"PLOVERD1", b"NBDMAGIC", b"ready"
LINE_BYTES_MAX = 400
KNOCK_S_MAX, TELL_S_MAX = 15.0, 5.0
CLIENTS_MAX = 8


class CopyGate:
    """The secondary's side, one for each empty QEMU. ``begin()`` makes the images ready for the copy ``name``."""

    def __init__(self, name: str, begin: Callable[[], Awaitable[None]]) -> None:
        self._name, self._begin = name, begin
        self._server: asyncio.Server | None = None
        self._clients = 0
        self._opened = False

    async def open(self, address: str, port: int) -> None:
        try:
            self._server = await asyncio.start_server(self._client, address, port, limit=LINE_BYTES_MAX)
        except OSError as error:
            raise QemuError(
                f"disk_port: cannot listen at {address}, port {port}: {error.strerror or error}; it must be an "
                "address of this host and a port that is free"
            ) from error

    def close(self) -> None:
        if self._server:
            self._server.close()
            self._server = None

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients += 1
        try:
            if self._clients <= CLIENTS_MAX:
                await self._answer(reader, writer)
        except (OSError, ValueError, asyncio.TimeoutError, QemuError):
            return  # a client that sends nonsense or goes away harms only itself; begin() reports its own errors
        finally:
            self._clients -= 1
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(GREETING)
        said = await asyncio.wait_for(reader.readline(), TELL_S_MAX)
        if said not in (b"", self._name.encode() + b"\n") or self._server is None or self._opened:
            return
        self._opened = True
        self.close()  # the port is QEMU's now
        await self._begin()
        writer.write(READY)
        with contextlib.suppress(OSError):  # a leader of an earlier version is gone by now
            await asyncio.wait_for(writer.drain(), TELL_S_MAX)


async def knock(address: str, port: int, name: str) -> None:
    """The leader's side: returns once the secondary is ready for the copy ``name``. Raises QemuError."""
    try:
        await asyncio.wait_for(_knock(address, port, name), KNOCK_S_MAX)
    except asyncio.TimeoutError:  # an OSError in some versions of Python
        raise QemuError(f"disk_port {port} of {address}: no answer within {KNOCK_S_MAX:.0f} s") from None
    except (OSError, EOFError) as error:
        raise QemuError(f"disk_port {port} of {address}: no copy can begin there: {error}") from error


async def _knock(address: str, port: int, name: str) -> None:
    reader, writer = await asyncio.open_connection(address, port)
    try:
        greeting = await reader.readexactly(len(GREETING))
        if greeting == NBD_GREETING:
            return
        if greeting != GREETING:
            raise QemuError(f"disk_port {port} of {address}: something else answers there; is the port free for Plover?")
        writer.write(name.encode() + b"\n")
        if await reader.read(len(READY)) != READY:
            raise QemuError(f"the secondary at {address} does not make its disks ready for a copy; its log says why")
    finally:
        writer.close()
