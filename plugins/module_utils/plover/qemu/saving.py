# SPDX-License-Identifier: GPL-3.0-or-later
"""What a stopped QEMU saves for us: its device state, and the migration stream without guest RAM. Both go to descriptors of ours."""

from __future__ import annotations

import asyncio
from typing import Any

from ..dataplane.vm_network import READ_BYTES
from ..errors import QemuError
from .colo import device_state
from .device_file import DeviceFile
from .qmp import Qmp

STREAM_BYTES_MAX = 48 << 20
CAPTURE_TIMEOUT_S, CAPTURE_LOOK_S = 15.0, 0.1
CAPTURE = "capture"  # QEMU's name of a connection that it got from us


class Saver:
    """Of one QEMU."""

    def __init__(self, qmp: Qmp) -> None:
        self._qmp, self._loop = qmp, asyncio.get_running_loop()
        self._file: DeviceFile | None = None
        self._set, self._given_over = 0, 0  # QEMU's name for it, and the connection over which QEMU got it

    def close(self) -> None:
        if self._file:
            self._file.close()
            self._file = None

    async def save_device(self) -> bytes:
        file = self._file = self._file or DeviceFile()
        for _try in range(2):
            connection = self._qmp.connections
            if self._given_over != connection:
                self._set = await self._give(file)
                self._given_over = connection = self._qmp.connections
            file.forget()
            try:
                await self._qmp.execute("xen-save-devices-state", filename=f"/dev/fdset/{self._set}", live=False)
                return device_state(file.read())
            except QemuError:
                if self._qmp.connections == connection:
                    raise
        raise QemuError("QMP xen-save-devices-state: the connection to QEMU broke again and again")

    async def _give(self, file: DeviceFile) -> int:
        answer = await self._qmp.give(file.for_qemu, "add-fd")
        number = answer.get("fdset-id") if isinstance(answer, dict) else None
        if not isinstance(number, int):
            raise QemuError(f"QMP add-fd: QEMU's answer is not understood: {str(answer)[:100]}")
        return number

    async def capture_stream(self) -> bytes:
        """Migrate the stopped VM's devices to ourselves; guest RAM is shared and stays out (ARCHITECTURE, "Driving QEMU")."""
        await self._qmp.capabilities(x_colo=False, x_ignore_shared=True)
        reader, writer = await asyncio.open_unix_connection(sock=await self._qmp.give_socket(CAPTURE))
        reading = self._loop.create_task(_read_all(reader))
        try:
            await self._qmp.execute("migrate", uri=f"fd:{CAPTURE}")
            stream = await self._captured(reading)
            await self._migration_ended()
        finally:
            reading.cancel()
            writer.close()
        if len(stream) > STREAM_BYTES_MAX:
            raise QemuError(f"device stream over {STREAM_BYTES_MAX} bytes; is guest RAM not shared?")
        return stream

    async def _captured(self, done: asyncio.Task[bytes]) -> bytes:
        """The whole stream. A failure is noticed at once, as the VM is stopped meanwhile."""
        end = self._loop.time() + CAPTURE_TIMEOUT_S
        while self._loop.time() < end:
            await asyncio.wait([done], timeout=CAPTURE_LOOK_S)
            if done.done():
                return done.result()
            _not_failed(await self._qmp.ask("query-migrate"))
        raise QemuError(f"capturing the device stream took longer than {CAPTURE_TIMEOUT_S} s")

    async def _migration_ended(self) -> None:
        for _try in range(200):
            info = await self._qmp.ask("query-migrate")
            if info.get("status") == "completed":
                return
            _not_failed(info)
            await asyncio.sleep(0.005)
        raise QemuError("QEMU's migrate did not end within a second of its stream")


async def _read_all(reader: asyncio.StreamReader) -> bytes:
    """Until its end, or until it is longer than a device stream can be."""
    parts, size = [], 0
    while size <= STREAM_BYTES_MAX and (chunk := await reader.read(READ_BYTES)):
        parts.append(chunk)
        size += len(chunk)
    return b"".join(parts)


def _not_failed(migration: dict[str, Any]) -> None:
    """``migration``: QEMU's answer to query-migrate."""
    if migration.get("status") in ("failed", "cancelled"):
        raise QemuError(f"QEMU's migrate: {migration.get('error-desc', migration['status'])}")
