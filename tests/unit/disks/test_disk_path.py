# SPDX-License-Identifier: GPL-3.0-or-later
"""Which way the disks' bytes take: streams between two replicas of this version, disk_port beside an earlier one."""

from __future__ import annotations

import asyncio
import os
import socket
from types import SimpleNamespace

import pytest
from plover.config.settings import Config
from plover.errors import QemuError
from plover.links import old_port
from plover.protocol import wire
from plover.replica.disk_path import DiskPath
from ports import free_port
from settings import MEMBERS, settings

NAME = "a" * 32
ADDRESS = MEMBERS["primary"]["address"]


class Replica:
    """As much of a daemon as DiskPath uses. ``knows``: does the other replica know streams (None: no link)?"""

    def __init__(self, tmp_path, knows) -> None:
        self.config = Config(settings("primary", disks=[{"path": "/d.img"}], run_dir=str(tmp_path), disk_port=free_port(ADDRESS)))
        self.config.run_path.mkdir()
        self.peer, self.knows = "secondary", knows
        self.links = SimpleNamespace(has_channel=self.has_channel, on_stream=None)
        self.core = SimpleNamespace(leading=None)
        self.given: list[tuple] = []  # sockets to listen on, to QEMU
        self.vm = SimpleNamespace(pid=7, images=SimpleNamespace(name=NAME), qmp=SimpleNamespace(give_listener=self.give))
        self.exported: list[dict] = []
        self.tasks = []
        self.path = DiskPath(self)

    def has_channel(self, member, channel):
        assert (member, channel) == ("secondary", wire.DISKS)
        return self.knows

    def spawn(self, work):
        self.tasks.append(asyncio.ensure_future(work))
        return self.tasks[-1]

    async def give(self, *listener) -> None:
        self.given.append(listener)

    async def ready(self, address) -> None:
        self.exported.append(address)

    async def wait(self) -> None:
        await self.path.wait(self.vm, self.ready)

    async def linked(self, knows) -> None:
        self.knows = knows
        self.path.linked()
        await asyncio.gather(*self.tasks)

    @property
    def listens(self) -> bool:
        try:
            socket.create_server((ADDRESS, self.config.disk_port)).close()
        except OSError:
            return True
        return False


def played(tmp_path, knows, play):
    async def run():
        replica = Replica(tmp_path, knows)
        try:
            return await play(replica)
        finally:
            replica.path.close()
            await asyncio.sleep(0)

    return asyncio.run(run())


@pytest.mark.parametrize("knows", [True, None])
def test_nothing_listens_at_disk_port_and_qemu_exports_on_a_unix_socket(tmp_path, knows):
    async def play(replica):
        await replica.wait()
        assert not replica.listens
        export = await replica.path._export(NAME)
        assert (export.path, export.pid) == (replica.config.run_path / "export.sock", 7)
        assert replica.given == [("export", export.path)] and replica.exported == [{"type": "fd", "data": {"str": "export"}}]
        await replica.linked(False)  # too late for this QEMU: it exports already
        assert not replica.listens

    played(tmp_path, knows, play)


def test_a_leader_of_an_earlier_version_finds_disk_port_and_the_log_says_so(tmp_path, caplog):
    """Its QEMU then speaks with ours, by way of the daemon: ours listens on a UNIX socket only."""

    async def nbd(reader, writer) -> None:
        writer.write(b"NBDMAGIC" + await reader.readexactly(4))

    async def play(replica):
        replica.vm.pid = os.getpid()
        await replica.wait()
        assert replica.listens
        await old_port.knock(ADDRESS, replica.config.disk_port, NAME)
        export = replica.config.run_path / "export.sock"
        assert replica.given == [("export", export)] and replica.exported == [{"type": "fd", "data": {"str": "export"}}]
        async with await asyncio.start_unix_server(nbd, export):
            reader, writer = await asyncio.open_connection(ADDRESS, replica.config.disk_port)
            writer.write(b"abcd")
            assert await asyncio.wait_for(reader.readexactly(12), 5.0) == b"NBDMAGICabcd"
            more = [await asyncio.open_connection(ADDRESS, replica.config.disk_port) for _ in range(3)]
            said = [await asyncio.wait_for(reader.read(100), 5.0) for reader, _writer in more[1:]]
            assert all(b"streams are open" in words for words in said), "two for each disk"
            assert replica.path.streams.describe()["open"] == 2
            replica.path.close()
            assert await asyncio.wait_for(reader.read(1), 5.0) == b"", "QEMU takes no more writes"
            assert not replica.listens
            for one in (writer, *(writer for _reader, writer in more)):
                one.close()

    played(tmp_path, False, play)
    assert "secondary is of an earlier version, so disk_port" in caplog.text


def test_the_port_follows_the_other_replicas_version_while_nothing_has_begun(tmp_path):
    async def play(replica):
        await replica.wait()
        seen = []
        for knows in (False, True, None, False, False, True):
            await replica.linked(knows)
            seen.append(replica.listens)
        assert seen == [True, False, False, True, True, False]
        await replica.path._export(NAME)
        assert replica.exported[0]["type"] == "fd"

    played(tmp_path, None, play)


def test_a_port_that_is_taken_harms_no_daemon(tmp_path, caplog):
    async def play(replica):
        with socket.create_server((ADDRESS, replica.config.disk_port)):
            await replica.wait()
            await replica.linked(False)
        with pytest.raises(QemuError, match="waits for no copy|not the copy"):
            await replica.path._export("b" * 32)

    played(tmp_path, True, play)
    assert "disk_port: cannot listen at" in caplog.text


def test_only_a_secondary_that_waits_for_a_copy_opens_its_images(tmp_path):
    async def refused(replica, name=NAME):
        with pytest.raises(QemuError, match="waits for no copy|not the copy that this host asked for"):
            await replica.path._export(name)

    async def play(replica):
        await refused(replica)
        await replica.wait()
        await refused(replica, "b" * 32)
        replica.core.leading = object()
        await refused(replica)
        replica.core.leading = None
        replica.path.close()
        await refused(replica)
        assert replica.exported == []

    played(tmp_path, True, play)


def test_the_leaders_qemu_is_sent_to_our_own_socket_even_if_the_bytes_go_to_an_earlier_versions_port(tmp_path, monkeypatch, caplog):
    offered, handed, done = [], [], []

    async def offer(*words) -> None:
        offered.append(words[:4])

    async def hand_out(dial, *words) -> None:
        handed.append(words[:2])
        await dial()

    async def knock(*words) -> None:
        done.append(("knocks", *words))

    async def dial(*words) -> None:
        done.append(("dials", *words))

    async def play(replica):
        monkeypatch.setattr(replica.path.streams, "offer", offer)
        monkeypatch.setattr(replica.path.streams, "hand_out", hand_out)
        monkeypatch.setattr(old_port, "knock", knock)
        monkeypatch.setattr(old_port, "dial", dial)
        with pytest.raises(QemuError, match="there is no link to secondary"):
            await replica.path.begin(replica.vm, NAME)
        path = replica.config.run_path / "disks.sock"
        replica.knows = True
        assert await replica.path.begin(replica.vm, NAME) == {"type": "unix", "path": str(path)}
        assert offered == [("secondary", NAME, path, 7)]
        assert "earlier version" not in caplog.text
        replica.knows = False
        assert await replica.path.begin(replica.vm, NAME) == {"type": "unix", "path": str(path)}
        there = MEMBERS["secondary"]["address"], replica.config.disk_port
        assert handed == [(path, 7)] and done == [("knocks", *there, NAME), ("dials", *there)]
        assert "written by its disk_port, which asks for no proof" in caplog.text

    played(tmp_path, None, play)
