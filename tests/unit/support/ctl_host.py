# SPDX-License-Identifier: GPL-3.0-or-later
"""A host with a daemon's control socket, and ploverctl on it."""

from __future__ import annotations

import asyncio
import json
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from plover.config.settings import Config
from plover.ctl import commands as ctl
from plover.daemon.control_server import ControlServer
from plover.protocol import wire
from plover.witness.daemon import Witness
from settings import settings

from lab.first_boot import mark_first_boot


@pytest.fixture
def folder():
    """A short path: a UNIX socket's has at most 107 characters."""
    with tempfile.TemporaryDirectory(prefix="plv") as path:
        yield Path(path)


@pytest.fixture
def host(folder, monkeypatch):
    """This host has the settings of VM 'demo', and ploverctl finds them."""
    monkeypatch.setattr(ctl, "CONFIG_DIR", folder)
    (folder / "demo.json").write_text(json.dumps(of("witness", folder)))
    return folder


def of(member, folder):
    return settings(member, run_dir=str(folder), state_dir=str(folder / "state"))


@asynccontextmanager
async def daemon(folder, operator=None):
    """A witness (or another ``operator``) behind its control socket; yields (witness, server, unexpected errors)."""
    mark_first_boot(of("witness", folder))
    witness, unexpected = Witness(Config(of("witness", folder))), []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: unexpected.append(context))
    server = ControlServer(folder / "demo" / "ctl.sock", operator or witness)
    await server.start()
    try:
        yield witness, unexpected
    finally:
        server._server.close()
        await asyncio.sleep(0)


def lead(witness, in_sync):
    """The primary leads view 1 with this record, as far as the witness hears."""
    witness.consensus.receive(witness.loop.time(), "primary", wire.Heartbeat(1, 1, 0, 1, 2, in_sync))


def run_ctl(host, *arguments, in_sync=None, operator=None):
    """The exit status of ploverctl while a daemon runs."""

    async def run():
        async with daemon(host, operator) as (witness, unexpected):
            if in_sync is not None:
                lead(witness, in_sync)
            code = await asyncio.to_thread(ctl.main, [*arguments])
            assert unexpected == []
            return code

    return asyncio.run(run())


class Says:
    """An operator with ready answers."""

    def __init__(self, answer):
        self.answer = answer

    async def operator(self, request):
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer
