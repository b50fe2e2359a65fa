# SPDX-License-Identifier: GPL-3.0-or-later
"""Two members with the streams of their disks, on loopback. In place of the secondary's QEMU: a server of the test's own."""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager
from pathlib import Path

from plover.config.settings import Config
from plover.errors import QemuError
from plover.links.peers import PeerLinks
from plover.links.streams import Export, Streams
from plover.protocol import wire
from ports import free_port
from settings import MEMBERS, settings
from test_peers import hello, sent, until

from lab.pki import Authority

COPY = "a" * 32
TLS = False  # True: a test wants links by TLS
KEYED = False  # True: and both know it of each other, so the streams go on by keys of their own


class Side:
    """A member's links and streams; the secondary exports at ``path``."""

    def __init__(self, name: str, port: int, folder: Path, disks: int, **more: object) -> None:
        self.heard, self.tasks = [], set()
        self.links = PeerLinks(
            Config(settings(name, port=port, **more)), lambda *m: self.heard.append(m), lambda *_: None, lambda *_: None, lambda: None
        )
        self.path, self.pid = folder / f"{name}.sock", os.getpid()
        self.name = COPY  # of the copy that it waits for
        self.streams = Streams(self.links, self.spawn, self.export, disks)

    def spawn(self, work) -> None:
        task = asyncio.ensure_future(work)
        self.tasks.add(task)
        task.add_done_callback(lambda done: None if done.cancelled() else done.result())  # an error reaches the loop's handler

    async def export(self, name: str) -> Export:
        if name != self.name:
            raise QemuError("that is not the copy that this host asked for")
        return Export(self.path, self.pid)


class Pair:
    """The leader ``primary``, the secondary whose "QEMU" is ``serve(reader, writer)``."""

    def __init__(self, folder: Path, serve, disks: int, **more: object) -> None:
        self.port = free_port(MEMBERS["secondary"]["address"])
        self.authority = Authority(settings("primary")["cluster_id"])
        if TLS:
            more["link_security"] = "tls"
        self.folders = {name: folder / f"{name}.tls" for name in ("primary", "secondary")}
        for name, own in self.folders.items():
            self.authority.give(own, name)
        self.leader, self.secondary = (
            Side(name, self.port, folder, disks, tls_folder=str(own), **more) for name, own in self.folders.items()
        )
        self._serve = serve
        self.served = 0

    async def serve(self, reader, writer) -> None:
        self.served += 1
        try:
            await self._serve(reader, writer)
        except (OSError, EOFError):
            pass
        finally:
            writer.close()

    async def offer(self) -> None:
        if KEYED and not self.leader.links.has_channel("secondary", wire.DISKS_KEYED):
            await self.leader.links.start()
            await until(lambda: self.leader.links.has_channel("secondary", wire.DISKS_KEYED))
        await self.leader.streams.offer("secondary", COPY, self.leader.path, os.getpid(), lambda path: path.chmod(0o600))

    async def connect(self):
        return await asyncio.open_unix_connection(str(self.leader.path))

    async def dial(self, channel=wire.DISKS, member="primary"):
        reader, writer = await asyncio.open_connection(MEMBERS["secondary"]["address"], self.port)
        writer.write(sent(hello(member=member, channel=channel)))
        return reader, writer


@asynccontextmanager
async def pair(folder, serve, disks=1, **more):
    unexpected = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: unexpected.append(context))
    out = Pair(folder, serve, disks, **more)
    await out.secondary.links.start()
    server = await asyncio.start_unix_server(out.serve, str(out.secondary.path))
    try:
        yield out
    finally:
        server.close()
        for side in (out.leader, out.secondary):
            side.streams.close()
            await side.links.stop()
            for task in side.tasks:
                task.cancel()
        await asyncio.sleep(0.02)
    assert unexpected == []
    assert not out.leader.streams._ends and not out.secondary.streams._ends


async def echo(reader, writer) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
