# SPDX-License-Identifier: GPL-3.0-or-later
"""The status socket: two words are answered, nothing else is; whoever asks costs the daemon little."""

from __future__ import annotations

import asyncio
import grp
import json
import os
import stat

import pytest
from plover.daemon import status_server
from plover.daemon.status_server import CLIENTS_MAX, LINE_BYTES_MAX, StatusServer
from plover.host import status_folder
from plover.host.history import History

OPERATOR = ("switchover", "audit", "failover-force", "cold-start-force", "settings", "watch", "syncvms", "", None, 7, ["status"])


def served(folder, talk, status=None):
    """What ``talk`` returns, with a function that sends lines on a new connection and returns the replies."""
    calls = []

    async def own_status():
        calls.append(1)
        return {"service": "protected", "calls": len(calls)}

    async def ask(*lines, eof=True):
        reader, writer = await asyncio.open_unix_connection(str(folder / "status" / "status.sock"))
        writer.write(b"".join(lines))
        if eof:
            writer.write_eof()
        out = await asyncio.wait_for(reader.read(), 10.0)
        writer.close()
        return [json.loads(line) for line in out.splitlines()]

    async def run():
        server = StatusServer(folder, folder, status or own_status)
        await server.start()
        try:
            return await talk(ask)
        finally:
            server._server.close()

    return asyncio.run(run())


def line(command):
    return json.dumps({"cmd": command}).encode() + b"\n"


def test_status_is_answered(folder):
    async def talk(ask):
        return await ask(line("status"))

    assert served(folder, talk) == [{"ok": True, "service": "protected", "calls": 1}]


@pytest.mark.parametrize("request_line", [*map(line, OPERATOR), b"\n", b"status\n", b"[" * 200 + b"\n", b"\xff\n"], ids=repr)
def test_nothing_else_is_answered(folder, request_line):
    async def talk(ask):
        return await ask(request_line, line("status"))

    refused, status = served(folder, talk)
    assert not refused["ok"] and "only 'status' and 'history'" in refused["error"] and status["ok"]


def test_a_line_without_end_ends_only_its_own_connection(folder):
    async def talk(ask):
        return await ask(b"x" * (4 * LINE_BYTES_MAX)), await ask(line("status"))

    assert served(folder, talk)[1][0]["ok"]


def test_a_status_is_made_once_for_all_who_ask_at_the_same_time(folder, monkeypatch):
    monkeypatch.setattr(status_server, "FRESH_S", 60.0)

    async def talk(ask):
        return await asyncio.gather(*(ask(line("status"), line("status")) for _client in range(CLIENTS_MAX)))

    assert {reply["calls"] for replies in served(folder, talk) for reply in replies} == {1}


def test_one_client_too_many_is_turned_away(folder):
    async def talk(ask):
        path = str(folder / "status" / "status.sock")
        held = [await asyncio.open_unix_connection(path) for _client in range(CLIENTS_MAX)]
        for _reader, writer in held:
            writer.write(line("status"))
        await asyncio.gather(*(reader.readline() for reader, _writer in held))
        turned_away = await ask(eof=False)
        for _reader, writer in held:
            writer.close()
        await asyncio.sleep(0.1)
        return turned_away, await ask(line("status"))

    turned_away, afterwards = served(folder, talk)
    assert turned_away == [] and afterwards[0]["ok"]


def test_the_newest_of_the_history_is_told_as_far_as_there_is_room(folder, monkeypatch):
    history = History(folder)
    for view in range(1, 101):
        history.note("view", "x" * 400, {"view": view, "leader": "primary", "cause": "failover"})
    assert history.flush()
    monkeypatch.setattr(status_server, "HISTORY_BYTES_MAX", 6000)

    async def talk(ask):
        return await ask(line("history"))

    (reply,) = served(folder, talk)
    views = [entry["view"] for entry in reply["entries"]]
    assert reply["ok"] and 5 < len(views) < 15 and views == list(range(101 - len(views), 101))


def test_the_folder_is_for_its_owner_and_the_group(folder, monkeypatch):
    monkeypatch.setattr(status_folder, "GROUP", "plover-nobody-has-this-group")

    async def talk(ask):
        return stat.S_IMODE((folder / "status").stat().st_mode)

    assert served(folder, talk) == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a folder to another group")
def test_the_group_passes_through_and_nobody_else(tmp_path):
    (tmp_path / "status").mkdir(mode=0o700)
    tmp_path.chmod(0o700)
    assert status_folder.share(tmp_path, "nogroup")
    found = (tmp_path / "status").stat()
    assert (found.st_gid, stat.S_IMODE(found.st_mode)) == (grp.getgrnam("nogroup").gr_gid, 0o710)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o701


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a folder to another group")
def test_no_link_is_followed(tmp_path):
    (tmp_path / "victim").mkdir(mode=0o700)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "status").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError):
        status_folder.share(tmp_path / "run", "nogroup")
    assert stat.S_IMODE((tmp_path / "victim").stat().st_mode) == 0o700
