# SPDX-License-Identifier: GPL-3.0-or-later
"""The disks between a replica of this version and one of an earlier version, in an upgrade: NBD by TCP, at ``disk_port``.

An earlier version knows no channel for disks. Its QEMU exports at ``disk_port``, or connects to it, without a proof. So a
secondary of this version opens that port only for a leader of an earlier version, and only until that leader's first word.

The leader knocks there with the copy's name. A secondary of a still earlier version exports at once: its QEMU answers the knock
with an NBD server's greeting. A leader of a still earlier version does not knock: its QEMU finds no NBD server at first, says
nothing, and finds one when it tries again.
"""

from __future__ import annotations

import asyncio
import contextlib

from ..config.settings import Config
from ..errors import QemuError
from .copy_gate import CopyGate

GREETING, NBD_GREETING, READY = b"PLOVERD1", b"NBDMAGIC", b"ready"
LINE_BYTES_MAX = 400
KNOCK_S_MAX, TELL_S_MAX = 15.0, 5.0
CLIENTS_MAX = 8


def of_images(config: Config) -> dict[str, object]:
    """Where a secondary's QEMU exports, as QEMU's nbd-server-start wants it."""
    return {"type": "inet", "data": _endpoint(config.members[config.member]["address"], config.disk_port)}


async def begin(config: Config, other: str, name: str) -> dict[str, str]:
    """The leader's side: ``other`` is ready for the copy ``name`` at the address returned. Raises QemuError."""
    address = config.members[other]["address"]
    await knock(address, config.disk_port, name)
    return {"type": "inet", **_endpoint(address, config.disk_port)}


def _endpoint(host: str, port: int) -> dict[str, str]:
    return {"host": host, "port": str(port)}


class OldPort:
    """The secondary's side. It opens ``gate`` for who knocks."""

    def __init__(self, gate: CopyGate) -> None:
        self._gate = gate
        self._server: asyncio.Server | None = None
        self._clients = 0

    async def open(self, address: str, port: int) -> None:
        try:
            self._server = await asyncio.start_server(self._client, address, port, limit=LINE_BYTES_MAX)
        except OSError as error:
            raise QemuError(
                f"disk_port: cannot listen at {address}, port {port}: {error.strerror or error}; it must be an "
                "address of this host and a port that is free, as long as the leader is of an earlier version"
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
        if said not in (b"", self._gate.name.encode() + b"\n") or self._server is None or self._gate.begun:
            return
        self.close()  # the port is QEMU's now
        await self._gate.take(self._gate.name)
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
