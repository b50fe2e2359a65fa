# SPDX-License-Identifier: GPL-3.0-or-later
"""What a guest or an escaped guest sends: frames, the console, the device state, QEMU's messages in the COLO loop."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator

from plover.core.guard import Guard
from plover.errors import QemuError
from plover.host.console_log import ConsoleLog
from plover.protocol.frames import FRAME_BYTES_MAX, FrameBuffer, split, wrap
from plover.qemu import colo, device_file, kernel_image
from plover.qemu.colo_dialects import ENABLED, RETURN

from ..target import Target, promise
from . import group

GUARD_BYTES = 4096


def frames(data: bytes) -> None:
    """QEMU's network socket, read in pieces, into the guard. The first byte says how large the pieces are."""
    step, guard, buffer, out = 1 + (data[0] if data else 0), Guard(GUARD_BYTES), FrameBuffer(), b""
    for at in range(1, len(data), step):
        run = buffer.feed(data[at : at + step])
        promise(buffer.rest_bytes < 4 + FRAME_BYTES_MAX, "half a frame that grows")
        for frame in split(run):
            promise(len(frame) > 0, "a frame of 0 bytes")
        promise(b"".join(wrap(bytes(frame)) for frame in split(run)) == run, "frames that do not give their bytes again")
        if run:
            guard.hold(run, 0.0)
        promise(guard.bytes <= GUARD_BYTES, "more output than is allowed")
        out += run
    promise(data[1:].startswith(out), "other bytes")


def _frames() -> Iterator[tuple[str, bytes]]:
    yield "two", b"\x40" + wrap(bytes(60)) + wrap(b"x" * 1500)
    yield "empty", b"\0" + wrap(b"") + wrap(b"x")
    yield "cut", b"\xff" + wrap(b"x" * 400)[:-1]


def device_state(data: bytes) -> None:
    file = device_file.DeviceFile()
    try:
        file.forget()
        os.write(file.for_qemu, data)
        found = file.read()
    finally:
        file.close()
    promise(found == data and colo.device_state(found) == data[colo.STATE_HEADER_BYTES :], "another device state")


def _device_state() -> Iterator[tuple[str, bytes]]:
    yield "some", b"QEVM\0\0\0\3" + bytes(200)


def stream(data: bytes) -> None:
    for command in (ENABLED.command, RETURN.command):
        out = colo.enable_colo(data, command)
        promise(out.replace(command, b"", 1) == data.replace(command, b"", 1) or command in data, "another stream")
        promise(len(out) == len(data) + len(command), "a stream of another length")


def _stream() -> Iterator[tuple[str, bytes]]:
    yield "some", b"QEVM" + bytes(30) + b"\1" + struct.pack("!I", 2) + b"\3ram" + bytes(60)


def kernel(data: bytes) -> None:
    path = group.FOLDER / "kernel"
    path.write_bytes(data)
    kernel_image.check(str(path))


def _kernel() -> Iterator[tuple[str, bytes]]:
    yield "bzimage", bytes(0x202) + b"HdrS" + bytes(20)
    yield "elf", b"\x7fELF" + bytes(0x300)


def console(data: bytes) -> None:
    """A console of any content stays small, and its end is kept."""
    path = group.FOLDER / "console.log"
    path.write_bytes(data)
    limit = 256
    begins_anew = ConsoleLog(path, limit).bound()
    promise(begins_anew == (len(data) > limit and path.stat().st_size == 0), "a console that is too long, or was cut for nothing")
    if begins_anew:
        promise(path.with_name("console.log.1").read_bytes() == data[-limit:], "another end")


def _console() -> Iterator[tuple[str, bytes]]:
    yield "short", b"Linux version 6.1\n"
    yield "long", b"Linux version 6.1\n" * 40


QEMU = (QemuError,)
TARGETS = [
    Target("frames", frames, QEMU, _frames),
    Target("device_state", device_state, QEMU, _device_state),
    Target("device_stream", stream, QEMU, _stream),
    Target("kernel_image", kernel, QEMU, _kernel),
    Target("console", console, (), _console),
]
