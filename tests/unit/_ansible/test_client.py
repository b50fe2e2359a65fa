# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules' client, against a UNIX socket server with ready answers; a real control server: ctl/test_watch.py."""

from __future__ import annotations

import socket
import tempfile
from pathlib import Path

import pytest
from ansible_collections.plover.vmft.plugins.module_utils._ansible import client
from fake_daemon import FakeDaemon
from plover.ctl.client import REPLY_BYTES_MAX

PROTECTED = {"ok": True, "service": "protected", "role": "leader", "sentence": "leading; secondary is in sync"}
DEGRADED = {"ok": True, "service": "degraded", "role": "leader", "sentence": "filling secondary: 40 %"}


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(client, "RETRY_S", 0.01)


@pytest.fixture
def daemon():
    """A factory; the folder's name is short, as a UNIX socket's path has at most 107 characters."""
    made = []
    with tempfile.TemporaryDirectory(prefix="plv") as run_dir:

        def make(*answers):
            made.append(FakeDaemon(run_dir, answers))
            return made[-1]

        yield make
        for one in made:
            one.close()


def ask(fake, **options):
    return client.ask("demo", "status", run_dir=fake.run_dir, **options)


def test_ask_sends_one_json_line_and_returns_the_answer(daemon):
    fake = daemon(PROTECTED)
    assert ask(fake) == PROTECTED
    assert fake.requests == [{"cmd": "status"}]


def test_a_long_answer_arrives_whole(daemon):
    answer = {"ok": True, "sentence": "x" * 300_000}
    assert ask(daemon(answer)) == answer


@pytest.mark.parametrize(
    "answer, words",
    [
        (b"not json\n", "running?"),
        (b"\xff\xfe\n", "running?"),
        (b"[1, 2]\n", "no JSON object"),
        (b'{"ok": true', "in mid-answer"),
        (b"", "in mid-answer"),
        (b"x" * (REPLY_BYTES_MAX + 70_000), "over 1048576 bytes"),
    ],
    ids=["words", "no-utf-8", "list", "cut", "nothing", "endless"],
)
def test_a_bad_answer_is_an_error_that_names_the_socket(daemon, answer, words):
    with pytest.raises(client.ClientError, match="ctl.sock") as error:
        ask(daemon(answer))
    assert words in str(error.value)


def test_no_daemon_names_the_units(tmp_path):
    with pytest.raises(client.ClientError, match="plover-replica@demo or plover-witness@demo running"):
        client.ask("demo", "status", run_dir=str(tmp_path))


def test_a_hung_daemon_is_not_waited_for_for_ever(tmp_path):
    with tempfile.TemporaryDirectory(prefix="plv") as run_dir, socket.socket(socket.AF_UNIX) as listener:
        Path(run_dir, "demo").mkdir()
        listener.bind(f"{run_dir}/demo/ctl.sock")
        listener.listen()
        with pytest.raises(client.ClientError, match="timed out"):
            client.ask("demo", "status", run_dir=run_dir, timeout_s=0.1)


def wait(fake, timeout_s):
    return client.wait_until("demo", lambda status: status["service"] == "protected", timeout_s, "protected", run_dir=fake.run_dir)


def test_wait_goes_on_until_it_holds_over_lost_connections(daemon):
    fake = daemon(DEGRADED, b"", PROTECTED)
    assert wait(fake, 10) == PROTECTED
    assert fake.requests == [{"cmd": "watch"}] * 3


def test_a_daemon_from_before_there_was_watch_is_asked_again_and_again(daemon):
    fake = daemon(
        {"ok": False, "error": "unknown command 'watch'"},
        DEGRADED,
        {"ok": False, "error": "'watch' is not for a witness; run it on a replica"},
        PROTECTED,
    )
    assert wait(fake, 10) == PROTECTED
    assert [request["cmd"] for request in fake.requests] == ["watch", "status"] * 2


def test_wait_gives_up_with_the_daemons_own_sentence(daemon):
    fake = daemon(DEGRADED)
    with pytest.raises(client.NotYet, match=r"timeout_s.*degraded: filling secondary: 40 %"):
        wait(fake, 0)


def test_wait_for_no_daemon_says_so(daemon, tmp_path):
    with pytest.raises(client.NotYet, match="plover-replica@demo or plover-witness@demo running"):
        client.wait_until("demo", bool, 0.1, "protected", run_dir=str(tmp_path))


def test_a_daemon_that_says_no_is_quoted(daemon):
    with pytest.raises(client.NotYet, match="8 watch already"):
        wait(daemon({"ok": False, "error": "8 watch already; end one of them"}), 0.1)
