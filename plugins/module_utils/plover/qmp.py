# SPDX-License-Identifier: GPL-3.0-or-later
"""The QMP adapter: the only file that knows the qemu.qmp library."""
from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import Callable
from typing import Any

from .errors import QemuError

try:
    from qemu.qmp import ConnectError, EventListener, ExecInterruptedError, QMPClient, QMPError
except ImportError:
    HAS_LIBRARY = False
else:
    HAS_LIBRARY = True

COMMAND_TIMEOUT_S = 10.0
logging.getLogger("qemu.qmp").setLevel(logging.CRITICAL)


def check_library() -> None:
    """Raises QemuError if qemu.qmp is not there: before anything is started that nobody could talk to."""
    if not HAS_LIBRARY:
        raise QemuError("the Python library qemu.qmp is missing; role 'runtime' installs it")


class Qmp:
    """One QMP connection. All errors are QemuError."""

    def __init__(self, client: QMPClient, pid: int) -> None:
        self._client, self.pid = client, pid

    @classmethod
    async def connect(cls, path: str, timeout_s: float) -> Qmp:
        """Connect to QEMU's socket, waiting until it is there."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        while True:
            client = QMPClient("plover")
            try:
                pid = peer_pid(path)
                await asyncio.wait_for(client.connect(path), timeout_s)
                return cls(client, pid)
            except (ConnectError, OSError, asyncio.TimeoutError) as error:
                if asyncio.get_running_loop().time() > deadline:
                    raise QemuError(f"QEMU did not answer on {path} within {timeout_s} s: {error}") from error
                await asyncio.sleep(0.02)

    async def execute(self, command: str, oob: bool = False, **arguments: Any) -> Any:
        """``oob``: answered even while QEMU's main loop is stuck; few commands can do that."""
        try:
            return await asyncio.wait_for(self._client.execute(command, arguments or None, oob=oob), COMMAND_TIMEOUT_S)
        except (QMPError, ExecInterruptedError) as error:
            raise QemuError(f"QMP {command}: {error}") from error
        except asyncio.TimeoutError:
            raise QemuError(f"QMP {command}: no answer within {COMMAND_TIMEOUT_S} s") from None

    async def execute_and_wait(self, command: str, event: str, **data: Any) -> None:
        """``command``, and then QEMU's ``event`` that says it has taken effect: the one with this ``data``."""
        async def come(listener: EventListener) -> None:
            while not data.items() <= (await listener.get()).get("data", {}).items():
                pass  # of something else, e.g. of what the guest did itself

        with self._client.listener(event) as listener:
            await self.execute(command)
            try:
                await asyncio.wait_for(come(listener), COMMAND_TIMEOUT_S)
            except asyncio.TimeoutError:
                raise QemuError(f"QMP {command}: no {event} within {COMMAND_TIMEOUT_S} s") from None

    async def watch(self, events: tuple[str, ...], callback: Callable[[str, dict], None]) -> None:
        """Call ``callback(name, data)`` for each of these events, until the connection ends."""
        with self._client.listener(events) as listener:
            async for event in listener:
                callback(event["event"], event.get("data", {}))

    async def capabilities(self, **states: bool) -> None:
        await self.execute("migrate-set-capabilities", capabilities=[
            {"capability": name.replace("_", "-"), "state": state} for name, state in states.items()])

    async def close(self) -> None:
        """End the connection; also takes the error with which a dead QEMU ended it."""
        try:
            await asyncio.wait_for(self._client.disconnect(), 1.0)
        except (QMPError, OSError, EOFError, asyncio.TimeoutError):
            return  # it is over either way


def peer_pid(path: str) -> int:
    """Process that listens on a UNIX socket: QEMU itself, whoever started it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(2.0)
        sock.connect(path)
        return struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
