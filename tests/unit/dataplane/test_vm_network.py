# SPDX-License-Identifier: GPL-3.0-or-later
"""The VM's network socket: what is sent in part is completed, whatever the kernel says in between."""

from __future__ import annotations

import asyncio
import errno
import socket

import pytest
from plover.dataplane.vm_network import BACKLOG_BYTES_MAX, READS_MAX, VmNetwork
from plover.protocol.frames import split, wrap

ENTRY = b"".join(wrap(bytes([n]) * 900) for n in range(1, 200))


class Moody:
    """A socket whose sends fail as told, and take a part only: what a kernel without memory does, on demand."""

    def __init__(self, real: socket.socket, errors: list[int], part_bytes: int) -> None:
        self._real, self._errors, self._part_bytes = real, errors, part_bytes

    def __getattr__(self, name: str):
        return getattr(self._real, name)

    def send(self, data: bytes) -> int:
        if self._errors and (number := self._errors.pop(0)):
            raise OSError(number, "moody")
        return self._real.send(data[: self._part_bytes])


def with_network(tmp_path, work, errors=(), part_bytes=1 << 30):
    """``await work(network, QEMU's end)``; returns why it broke."""
    path, broken = str(tmp_path / "net"), []

    async def run():
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen(1)
            network = VmNetwork(lambda run: None, broken.append)
            await network.connect(path)
            network._socket = Moody(network._socket, list(errors), part_bytes)
            with listener.accept()[0] as qemu:
                qemu.setblocking(False)
                await work(network, qemu)
            network.close()

    asyncio.run(run())
    return broken


async def read(qemu: socket.socket, count: int) -> bytes:
    out = b""
    while len(out) < count:
        out += await asyncio.wait_for(asyncio.get_running_loop().sock_recv(qemu, 1 << 16), 2)
    return out


@pytest.mark.parametrize("number", [errno.ENOBUFS, errno.ENOMEM])
def test_a_kernel_without_memory_in_mid_frame_costs_no_frame(tmp_path, number):
    """Before, the rest of the frame was dropped, and QEMU took the next bytes for its end: out of step for good."""

    async def work(network, qemu):
        network.inject(ENTRY)
        network.inject(ENTRY)
        got = await read(qemu, 2 * len(ENTRY))
        assert [bytes(f) for f in split(got)] == 2 * [bytes(f) for f in split(ENTRY)]
        assert not network.has_backlog and network.dropped_bytes == 0

    assert with_network(tmp_path, work, [0, number, 0, number, number], part_bytes=1300) == []


def test_a_full_socket_keeps_its_frames_in_order_and_the_rest_is_dropped_in_whole_entries(tmp_path):
    async def work(network, qemu):
        for _time in range(100):
            network.inject(ENTRY)
        kept = 100 * len(ENTRY) - network.dropped_bytes
        assert kept > BACKLOG_BYTES_MAX > 0 < network.dropped_bytes and network.dropped_bytes % len(ENTRY) == 0
        got = await read(qemu, kept)
        assert got == ENTRY * (kept // len(ENTRY)) and not network.has_backlog

    assert with_network(tmp_path, work) == []


def test_a_qemu_that_takes_no_more_is_told_once_and_what_it_lacks_is_counted(tmp_path):
    async def work(network, qemu):
        network.inject(ENTRY)
        network.inject(ENTRY)
        assert network.dropped_bytes == 2 * len(ENTRY) and network.fileno() == -1

    assert with_network(tmp_path, work, [errno.EPIPE]) == ["QEMU takes no more frames: moody"]


class Endless:
    """A QEMU that has always sent something more."""

    def __init__(self, real: socket.socket) -> None:
        self._real = real

    def __getattr__(self, name: str):
        return getattr(self._real, name)

    def recv(self, size: int) -> bytes:
        return (wrap(bytes(996)) * 66)[:66_000]


def test_a_vm_that_sends_without_end_does_not_keep_the_daemon_from_its_other_work(tmp_path):
    async def work(network, qemu):
        network._socket = Endless(network._socket)
        network.read()
        assert network.taken_bytes == READS_MAX * 66_000
        network.read()
        assert network.taken_bytes == 2 * READS_MAX * 66_000

    assert with_network(tmp_path, work) == []
