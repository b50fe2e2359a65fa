# SPDX-License-Identifier: GPL-3.0-or-later
"""The disks between a replica of this version and one of an earlier version, in an upgrade: NBD by TCP, at ``disk_port``.

An earlier version knows no channel for disks. Its QEMU exports at ``disk_port``, or connects to it, without a proof. On our side
the daemon carries these bytes, as it does those of streams.py: our QEMU has no network.

    leader:  QEMU ─ TCP ───────────────────────── disk_port ═ daemon ─ UNIX socket ─ QEMU  :secondary of this version
    leader of this version:  QEMU ─ UNIX socket ─ daemon ─ TCP ─ disk_port ═ QEMU  :secondary

A secondary of this version opens that port only for a leader of an earlier version. The leader knocks there with the copy's name,
and its QEMU connects once the images are ready. A secondary of a still earlier version exports at once: its QEMU answers the
knock with an NBD server's greeting. A leader of a still earlier version does not knock: its QEMU finds no NBD server at first,
says nothing, and finds one when it tries again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from ..disks.copy_gate import CopyGate
from ..errors import QemuError
from .relay import End

GREETING, NBD_GREETING, READY = b"PLOVERD1", b"NBDMAGIC", b"ready"
KNOCK_S_MAX, TELL_S_MAX, CONNECT_S_MAX = 15.0, 5.0, 2.0
CLIENTS_MAX = 8  # that knock at a time; streams.py limits those that are carried
_ERRORS = (OSError, EOFError, ValueError, asyncio.TimeoutError, QemuError)


class OldPort:
    """The secondary's side. It opens ``gate`` for who knocks. From then on it hands each connection to ``carry``."""

    def __init__(
        self,
        gate: CopyGate,
        carry: Callable[[End], Coroutine[Any, Any, None]],
        spawn: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        self._gate, self._carry, self._spawn = gate, carry, spawn
        self._server: asyncio.AbstractServer | None = None
        self._knocking: set[End] = set()
        self._ready = False  # for the NBD client of the leader's QEMU

    async def open(self, address: str, port: int) -> None:
        try:
            self._server = await asyncio.get_running_loop().create_server(lambda: End(self._came), address, port)
        except OSError as error:
            raise QemuError(
                f"disk_port: cannot listen at {address}, port {port}: {error.strerror or error}; it must be an "
                "address of this host and a port that is free, as long as the leader is of an earlier version"
            ) from error

    def close(self) -> None:
        """Take no more connections. Those that are carried go on."""
        if self._server:
            self._server.close()
            self._server = None
        for end in list(self._knocking):
            end.abort()

    def _came(self, end: End) -> None:
        if self._server is None or (len(self._knocking) >= CLIENTS_MAX and not self._ready):
            end.abort()
        elif self._ready:
            self._spawn(self._carry(end))
        else:
            self._knocking.add(end)
            end.on_lost = lambda: self._knocking.discard(end)
            self._spawn(self._answer(end))

    async def _answer(self, end: End) -> None:
        try:
            end.transport.write(GREETING)
            if not await self._may_begin(end) or self._server is None or self._gate.begun:
                return
            await self._gate.take(self._gate.name)
            self._ready = True
            if not end.lost:  # a leader of a still earlier version is gone by now
                end.transport.write(READY)
        except _ERRORS:
            return  # a client that sends nonsense or goes away harms only itself; the gate reports its own errors
        finally:
            end.end()

    async def _may_begin(self, end: End) -> bool:
        """It names the copy, or goes away without a word, as an NBD client does."""
        try:
            return await end.line(TELL_S_MAX) == self._gate.name.encode()
        except EOFError:
            return not end.held_bytes


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


async def dial(address: str, port: int) -> End:
    """After :func:`knock`: a connection to the NBD server of the secondary's QEMU. Raises QemuError."""
    try:
        connecting: Awaitable[tuple[asyncio.BaseTransport, End]] = asyncio.get_running_loop().create_connection(End, address, port)
        return (await asyncio.wait_for(connecting, CONNECT_S_MAX))[1]
    except (OSError, asyncio.TimeoutError) as error:
        raise QemuError(f"disk_port {port} of {address}: its NBD server cannot be reached: {error or 'no answer in time'}") from error
