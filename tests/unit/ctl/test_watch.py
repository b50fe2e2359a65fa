# SPDX-License-Identifier: GPL-3.0-or-later
"""`watch` on the daemon's control socket, the modules' client and ploverctl: the real server, told what its daemon says."""

from __future__ import annotations

import asyncio
import json
import tempfile
import threading
import time
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from ansible_collections.plover.vmft.plugins.module_utils._ansible import client as modules_client
from plover.ctl import commands as ctl
from plover.daemon import control_server as ctl_server
from plover.daemon.control_server import ControlServer
from settings import settings

SAYS = {
    "service": "degraded",
    "role": "leader",
    "leader": "primary",
    "sentence": "filling",
    "in_sync": ["primary"],
    "view": 3,
    "name": "demo",
    "member": "primary",
    "log_index": 7,
    "reason": "",
    "since": 1.0,
}


class Operator:
    def __init__(self):
        self.status, self.asked = dict(SAYS), 0

    async def operator(self, request):
        self.asked += request == {"cmd": "status"}
        return dict(self.status)


@pytest.fixture
def folder(monkeypatch):
    monkeypatch.setattr(ctl_server, "WATCH_EVERY_S", 0.01)
    monkeypatch.setattr(ctl_server, "ALIVE_S", 0.05)
    monkeypatch.setattr(modules_client, "RETRY_S", 0.01)
    with tempfile.TemporaryDirectory(prefix="plv") as path:
        yield Path(path)


@asynccontextmanager
async def served(folder, operator):
    server, unexpected = ControlServer(folder / "demo" / "ctl.sock", operator), []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: unexpected.append(context))
    await server.start()
    try:
        yield server
    finally:
        server._server.close()
        await asyncio.sleep(0.05)
        assert unexpected == []


async def watcher(folder):
    reader, writer = await asyncio.open_unix_connection(str(folder / "demo" / "ctl.sock"))
    writer.write(b'{"cmd": "watch"}\n')
    return reader, writer


async def line(reader):
    return json.loads(await asyncio.wait_for(reader.readline(), 10.0))


async def news(reader):
    while (said := await line(reader)).get("alive"):
        pass
    return said


def test_the_status_comes_at_once_then_what_is_new_and_signs_of_life_between(folder):
    async def run():
        operator = Operator()
        async with served(folder, operator):
            reader, writer = await watcher(folder)
            assert await line(reader) == {"ok": True, **SAYS}
            assert await line(reader) == {"ok": True, "alive": True}
            operator.status["log_index"] = 8
            operator.status["since"] = 2.0
            assert await line(reader) == {"ok": True, "alive": True}, "counters are no news"
            for key, value in (("sentence", "filling: 40 %"), ("service", "protected"), ("in_sync", ["a", "b"])):
                operator.status[key] = value
                assert (await news(reader))[key] == value
            writer.close()

    asyncio.run(run())


def test_a_count_that_goes_up_within_a_sentence_is_no_news():
    first, counted, other = (
        ctl_server.news_of({"sentence": f"following {who}, log index {index}; ready"}) for who, index in (("a", 7), ("a", 812), ("b", 7))
    )
    assert first == counted != other


def test_nothing_is_asked_while_nobody_watches(folder):
    async def run():
        operator = Operator()
        async with served(folder, operator) as server:
            await asyncio.sleep(0.1)
            assert operator.asked == 0
            reader, writer = await watcher(folder)
            await line(reader)
            writer.close()
            while server._watchers:
                await asyncio.sleep(0.01)
            asked = operator.asked
            await asyncio.sleep(0.1)
            assert operator.asked == asked > 0

    asyncio.run(asyncio.wait_for(run(), 20))


def test_so_many_may_watch_and_no_more_and_a_place_is_free_again(folder):
    async def run():
        async with served(folder, Operator()):
            watching = [await watcher(folder) for _ in range(ctl_server.WATCHERS_MAX)]
            for reader, _ in watching:
                assert (await line(reader))["ok"]
            reader, _ = await watcher(folder)
            assert await line(reader) == {"ok": False, "error": "8 watch already; end one of them"}
            assert await reader.read() == b""
            watching[0][1].close()
            for _ in range(500):
                reader, writer = await watcher(folder)
                if (await line(reader))["ok"]:
                    return
                writer.close()
                await asyncio.sleep(0.01)
            raise AssertionError("the place is not free")

    asyncio.run(run())


def test_a_stream_has_an_end(folder, monkeypatch):
    monkeypatch.setattr(ctl_server, "WATCH_S_MAX", 0.05)

    async def run():
        async with served(folder, Operator()):
            reader, _ = await watcher(folder)
            assert len((await asyncio.wait_for(reader.read(), 10)).splitlines()) >= 1

    asyncio.run(run())


def test_a_watcher_that_talks_on_is_closed(folder):
    async def run():
        async with served(folder, Operator()):
            reader, writer = await watcher(folder)
            await line(reader)
            writer.write(b"nonsense\n")
            await asyncio.wait_for(reader.read(), 10)

    asyncio.run(run())


def test_a_watcher_that_does_not_read_is_closed_and_harms_nobody(folder, monkeypatch):
    monkeypatch.setattr(ctl_server, "DRAIN_S", 0.05)

    class Talkative(Operator):
        async def operator(self, request):
            self.asked += 1
            return {**self.status, "sentence": f"{self.asked} " + "x" * 500_000}

    async def run():
        async with served(folder, Talkative()) as server:
            _, writer = await watcher(folder)
            while server._watchers == 0:
                await asyncio.sleep(0.01)
            while server._watchers:
                await asyncio.sleep(0.01)
            writer.close()

    asyncio.run(asyncio.wait_for(run(), 30))


class Daemon:
    """The server in a thread of its own, which can be ended and started again."""

    def __init__(self, folder):
        self.folder, self.operator = folder, Operator()

    def start(self):
        self.loop, ready = asyncio.new_event_loop(), threading.Event()

        async def serve():
            self.server = ControlServer(self.folder / "demo" / "ctl.sock", self.operator)
            await self.server.start()
            ready.set()

        self.loop.create_task(serve())
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        assert ready.wait(10)

    def end(self):
        async def all_off():
            self.server._server.close()
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
            await asyncio.sleep(0.02)

        asyncio.run_coroutine_threadsafe(all_off(), self.loop).result(10)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
        self.loop.close()


@pytest.fixture
def daemon(folder):
    out = Daemon(folder)
    out.start()
    yield out
    out.end()


def later(operator, *steps):
    """Do the steps one after the other, from another thread: each once the watcher was told of the one before."""

    def run():
        for step in steps:
            asked, end = operator.asked, time.monotonic() + 20.0
            while operator.asked < asked + 2 and time.monotonic() < end:  # the first may have been asked before the step
                time.sleep(0.002)
            step()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def wait(folder, timeout_s=20.0, news=lambda status: None):
    return modules_client.wait_until(
        "demo", lambda status: status["service"] == "protected", timeout_s, "protected", run_dir=str(folder), news=news
    )


def test_the_client_hears_of_what_it_waits_for(folder, daemon):
    said = []
    thread = later(
        daemon.operator,
        lambda: daemon.operator.status.update(sentence="filling: 40 %"),
        lambda: daemon.operator.status.update(service="protected"),
    )
    assert wait(folder, news=lambda status: said.append((status["service"], status["sentence"])))["service"] == "protected"
    thread.join()
    assert said == [("degraded", "filling"), ("degraded", "filling: 40 %"), ("protected", "filling: 40 %")]


def test_a_restart_of_the_daemon_meanwhile_is_survived(folder, daemon):
    def restart():
        daemon.end()
        daemon.start()

    thread = later(daemon.operator, restart, lambda: daemon.operator.status.update(service="protected"))
    assert wait(folder)["service"] == "protected"
    thread.join()


def test_a_daemon_that_hangs_is_noticed(folder, daemon, monkeypatch):
    monkeypatch.setattr(modules_client.client, "SILENCE_S", 0.05)

    async def hang(request):
        await asyncio.sleep(60)

    daemon.operator.operator = hang
    with pytest.raises(modules_client.NotYet, match="The daemon says: .*timed out"):
        wait(folder, timeout_s=0.3)


# --- ploverctl status --watch ---


@pytest.fixture
def host(folder, daemon, monkeypatch):
    monkeypatch.setattr(ctl, "CONFIG_DIR", folder)
    (folder / "demo.json").write_text(json.dumps(settings("primary", run_dir=str(folder))))
    return daemon


def test_ploverctl_shows_each_news_and_ends_as_the_service_was_last(host, capsys, monkeypatch):
    thread = later(host.operator, lambda: host.operator.status.update(service="protected", sentence="in sync"), host.end)
    assert ctl.main(["status", "--watch"]) == 2
    thread.join()
    shown = capsys.readouterr()
    rows = [row.split(maxsplit=1)[1] for row in shown.out.splitlines()]
    assert rows == ["demo: degraded; primary is leader: filling", "demo: protected; primary is leader: in sync"]
    assert "the daemon does not answer" in shown.err
    host.start()


def test_ploverctl_gives_programs_a_line_of_json_for_each_news(host, capsys):
    thread = later(host.operator, lambda: host.operator.status.update(service="protected"), host.end)
    assert ctl.main(["status", "--watch", "-o", "json"]) == 2
    thread.join()
    rows = [json.loads(row) for row in capsys.readouterr().out.splitlines()]
    assert [row.get("service") for row in rows] == ["degraded", "protected", None] and rows[-1]["ok"] is False
    host.start()
