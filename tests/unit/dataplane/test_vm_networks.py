# SPDX-License-Identifier: GPL-3.0-or-later
"""The sockets of a VM's cards: input goes to its card as QEMU takes it, output is marked, and one broken card is enough."""

from __future__ import annotations

import asyncio
import contextlib
import socket

from plover.dataplane.vm_networks import VmNetworks
from plover.protocol.frames import wrap

CARDS = 3


def with_networks(tmp_path, work):
    """``await work(networks, QEMU's ends, output)``; returns what was told as broken."""
    broken, output = [], []

    async def run():
        with contextlib.ExitStack() as stack:
            listeners, paths = [], [str(tmp_path / f"net{n}") for n in range(CARDS)]
            for path in paths:
                listener = stack.enter_context(socket.socket(socket.AF_UNIX))
                listener.bind(path)
                listener.listen(1)
                listeners.append(listener)
            networks = VmNetworks(CARDS, output.append, broken.append)
            await networks.connect(paths)
            qemu = [stack.enter_context(listener.accept()[0]) for listener in listeners]
            for end in qemu:
                end.setblocking(False)
            await work(networks, qemu, output)
            networks.close()

    asyncio.run(run())
    return broken


def got(end):
    try:
        return end.recv(1 << 16)
    except BlockingIOError:
        return b""


def test_each_card_gets_its_frames_without_the_mark(tmp_path):
    async def work(networks, qemu, output):
        networks.inject(wrap(b"a") + wrap(b"b", 2) + wrap(b"c", 2) + wrap(b"d") + wrap(b"e", 1))
        assert networks.unread and not networks.has_backlog
        assert [got(end) for end in qemu] == [wrap(b"a") + wrap(b"d"), wrap(b"e"), wrap(b"b") + wrap(b"c")]
        assert not networks.unread and networks.dropped_bytes == 0

    assert with_networks(tmp_path, work) == []


def test_a_frame_for_a_card_that_the_vm_does_not_have_is_counted(tmp_path):
    async def work(networks, qemu, output):
        networks.inject(wrap(b"a", 1) + wrap(b"nobody's", 7))
        assert [got(end) for end in qemu] == [b"", wrap(b"a"), b""]
        assert networks.dropped_bytes == len(wrap(b"nobody's"))
        after = VmNetworks(CARDS, output.append, print, networks)
        assert after.dropped_bytes == networks.dropped_bytes

    assert with_networks(tmp_path, work) == []


def test_output_is_marked_with_the_card_it_came_from(tmp_path):
    async def work(networks, qemu, output):
        for card, end in enumerate(qemu):
            end.send(wrap(b"from %d" % card))
        networks.read()
        assert b"".join(output) == b"".join(wrap(b"from %d" % card, card) for card in range(CARDS))
        assert networks.taken_bytes == len(b"".join(output))

    assert with_networks(tmp_path, work) == []


def test_one_broken_card_breaks_the_vms_network_and_is_told_once(tmp_path):
    async def work(networks, qemu, output):
        qemu[1].close()
        networks.read()
        assert networks.broken == "QEMU closed its network socket"
        qemu[2].close()
        networks.read()

    assert with_networks(tmp_path, work) == ["QEMU closed its network socket"]


def test_a_half_frame_of_any_card_at_the_end_of_a_stop_is_out_of_step(tmp_path):
    async def work(networks, qemu, output):
        qemu[2].send(wrap(b"half")[:-1])
        networks.read()
        networks.end_with_whole_frames()
        assert networks.broken.startswith("QEMU stopped its VM after 7 bytes of a frame")

    assert len(with_networks(tmp_path, work)) == 1
