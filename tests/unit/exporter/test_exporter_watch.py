# SPDX-License-Identifier: GPL-3.0-or-later
"""The exporter finds the VMs of its host, asks their daemons by the status socket, and forgets VMs that are gone."""

from __future__ import annotations

import asyncio
import shutil

from plover.daemon.status_server import StatusServer
from plover.exporter import watch as module
from plover.exporter.watch import Watch
from plover.host.history import History


async def until(condition, seconds=60.0):
    end = asyncio.get_running_loop().time() + seconds
    while not condition():
        assert asyncio.get_running_loop().time() < end, "it did not happen"
        await asyncio.sleep(0.02)


async def serve(folder, name, service="protected"):
    """A daemon's status socket; ``service`` may be changed in what is returned."""
    said = {"service": service, "view": 1, "role": "witness"}

    async def status():
        return said

    history = History(folder)
    history.note("start", f"{name} started", {})
    assert history.flush()
    server = StatusServer(folder / name, folder, status)
    await server.start()
    return said, server


def watched(folder, talk, monkeypatch, vms=()):
    monkeypatch.setattr(module, "EVERY_S", 0.05)
    monkeypatch.setattr(module, "LOOK_EVERY_S", 0.1)

    async def run():
        watch = Watch(folder, vms)
        task = asyncio.ensure_future(watch.run())
        try:
            await talk(watch)
        finally:
            task.cancel()
            await asyncio.wait([task])

    asyncio.run(run())


def test_vms_are_found_followed_and_forgotten(folder, monkeypatch):
    async def talk(watch):
        (folder / "Not-a-vm" / "status").mkdir(parents=True)
        (folder / "no-status").mkdir()
        said, server = await serve(folder, "demo")
        await until(lambda: watch.one("demo") and watch.one("demo").service == "protected")
        await until(lambda: [entry["why"] for entry in watch.history("demo")] == ["demo started"])
        await until(lambda: len(watch.samples("demo")) > 1)
        said["service"] = "degraded"
        await until(lambda: watch.one("demo").exit_status == 1)
        server._server.close()
        (folder / "demo" / "status" / "status.sock").unlink()
        await until(lambda: not watch.one("demo").answers)
        assert "the daemon does not answer" in watch.one("demo").error and "plover-witness@demo" in watch.one("demo").error
        assert [seen.name for seen in watch.all()] == ["demo"] and not watch.hangs
        shutil.rmtree(folder / "demo")
        await until(lambda: watch.all() == [])

    watched(folder, talk, monkeypatch)


def test_a_vm_that_should_be_here_is_shown_without_its_daemon(folder, monkeypatch):
    async def talk(watch):
        await until(lambda: watch.one("shop") and "does not answer" in watch.one("shop").error)
        assert watch.one("shop").service == "down"

    watched(folder, talk, monkeypatch, vms=("shop",))


def test_a_host_without_plover_says_so(folder, monkeypatch):
    async def talk(watch):
        await until(lambda: watch.problem)
        assert "run_dir:" in watch.problem and "has a daemon of Plover ever run on this host?" in watch.problem

    watched(folder / "missing", talk, monkeypatch)


def test_a_daemon_that_hangs_keeps_no_other_s_answer(folder, monkeypatch):
    monkeypatch.setattr(module, "ANSWER_S", 30.0)

    async def talk(watch):
        held = []

        async def hang(reader, writer):
            held.append(writer)
            await asyncio.sleep(3600)

        (folder / "hung" / "status").mkdir(parents=True)
        server = await asyncio.start_unix_server(hang, str(folder / "hung" / "status" / "status.sock"))
        await serve(folder, "demo")
        await until(lambda: watch.one("demo") and watch.one("demo").answers)
        assert not watch.one("hung").answers
        for writer in held:
            writer.close()
        server.close()

    watched(folder, talk, monkeypatch)
