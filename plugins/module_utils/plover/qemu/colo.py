# SPDX-License-Identifier: GPL-3.0-or-later
"""The peer of stock QEMU's COLO incoming loop (QEMU migration/colo.c): it loads device states for us. Its dialects differ in how
the loop begins: qemu/colo_dialects.py.

Messages are u32 big-endian: READY 0, REQUEST 1, REPLY 2, VMSTATE_SEND 3, VMSTATE_SIZE 4 (+ u64),
VMSTATE_RECEIVED 5, VMSTATE_LOADED 6.
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct

from ..errors import QemuError
from .colo_dialects import Dialect

READY, REQUEST, REPLY, SEND, SIZE, RECEIVED, LOADED = range(7)
_RAM_SECTION = re.compile(rb"\x01[\x00-\xff]{4}\x03ram")
STATE_HEADER_BYTES = 8  # magic and version at the start of xen-save-devices-state's file
STATE_MAGIC = b"QEVM"
TIMEOUT_S = 20.0


def enable_colo(stream: bytes, command: bytes) -> bytes:
    """Insert, before the first section, the dialect's command that makes the loading side enter the COLO loop."""
    match = _RAM_SECTION.search(stream)
    if not match or not stream.startswith(STATE_MAGIC):
        raise QemuError("the captured migration stream has no RAM section; this QEMU's format is not known")
    return b"".join((stream[: match.start()], command, stream[match.start() :]))


def device_state(saved: bytes) -> bytes:
    """The device state in the COLO loop's form. ``saved``: the file of xen-save-devices-state."""
    if not saved.startswith(STATE_MAGIC) or len(saved) <= STATE_HEADER_BYTES:
        raise QemuError(f"QEMU wrote a device state of {len(saved)} bytes that does not start with its magic")
    return saved[STATE_HEADER_BYTES:]


class ColoPeer:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, dialect: Dialect) -> None:
        self._reader, self._writer, self.dialect = reader, writer, dialect
        self._stopped = False

    @classmethod
    async def over(cls, connection: socket.socket, dialect: Dialect) -> ColoPeer:
        """``connection``: its other end is QEMU's."""
        return cls(*await asyncio.open_unix_connection(sock=connection), dialect)

    async def feed(self, stream: bytes) -> None:
        """Load ``stream``; returns once QEMU is in the loop and the VM runs."""
        self._writer.write(enable_colo(stream, self.dialect.command))
        greeting = await self._read(len(self.dialect.greeting), "the end of the return path")
        if greeting != self.dialect.greeting:
            raise QemuError(f"COLO loop: expected {self.dialect.greeting.hex()} before it begins, QEMU sent {greeting.hex()}")
        await self._expect(READY)

    async def stop(self) -> None:
        """Stop the VM; it may be stopped already, if a syncvm was given up after its stop."""
        if self._stopped:
            return
        self._writer.write(struct.pack("!I", REQUEST))
        await self._expect(REPLY)
        self._stopped = True

    async def load(self, state: bytes) -> None:
        self._writer.write(struct.pack("!IBIQ", SEND, 0, SIZE, len(state)) + state)
        await self._expect(RECEIVED)
        await self._expect(LOADED)
        self._stopped = False

    async def _read(self, count: int, what: str) -> bytes:
        try:
            await asyncio.wait_for(self._writer.drain(), TIMEOUT_S)
            return await asyncio.wait_for(self._reader.readexactly(count), TIMEOUT_S)
        except (OSError, EOFError, asyncio.TimeoutError) as error:
            raise QemuError(f"COLO loop: waiting for {what}: {type(error).__name__} {error}") from error

    async def _expect(self, wanted: int) -> None:
        got = struct.unpack("!I", await self._read(4, f"message {wanted}"))[0]
        if got != wanted:
            raise QemuError(f"COLO loop: expected message {wanted}, QEMU sent {got}")

    def close(self) -> None:
        self._writer.close()
