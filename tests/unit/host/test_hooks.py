# SPDX-License-Identifier: GPL-3.0-or-later
"""The queue of events and the thread that tells them, by real commands and servers: what is told, tried again, given up, dropped."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path

import pytest
from event_server import BROKEN, OK, REDIRECT, event_server
from plover.host import hooks, webhook
from plover.host.hooks import WAITING_MAX, Hooks


@pytest.fixture(autouse=True)
def quick(monkeypatch, caplog):
    monkeypatch.setattr(hooks, "COMMAND_PAUSES_S", (0.01,))
    monkeypatch.setattr(hooks, "URL_PAUSES_S", (0.01, 0.02))
    caplog.set_level(logging.INFO, "plover")


@pytest.fixture
def made():
    """Makes hooks that are ended with the test."""
    out = []

    def make(command=(), url="", timeout_s=60.0):
        out.append(Hooks(list(command), url, timeout_s))
        return out[-1]

    yield make
    for each in out:
        each.close(0.0)


@pytest.fixture
def script(tmp_path):
    """Writes a shell script; returns the command that runs it with ``tmp_path`` as $1."""

    def write(text):
        path = tmp_path / "hook"
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o700)
        return [str(path), str(tmp_path)]

    return write


def until(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def put(target, *names):
    for name in names:
        target.put({"event": name}, {"PLOVER_EVENT": name})


def counts(target):
    found = target.describe()
    return found["told"], found["failed"], found["dropped"], found["waiting"]


def warnings(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_each_event_is_told_to_both_in_order(made, script, tmp_path):
    with event_server(OK) as server:
        told = made(script('cat >>"$1/got"; echo "$PLOVER_EVENT" >>"$1/names"'), f"http://127.0.0.1:{server.port}/")
        put(told, "degraded", "cold start", "protected")
        until(lambda: counts(told) == (3, 0, 0, 0))
        lines = [json.dumps({"event": name}).encode() + b"\n" for name in ("degraded", "cold start", "protected")]
        assert server.bodies == lines and (tmp_path / "got").read_bytes() == b"".join(lines)
    assert (tmp_path / "names").read_text().splitlines() == ["degraded", "cold start", "protected"]
    assert told.describe()["last_error"] == ""


def test_a_server_that_is_broken_for_a_moment_is_asked_again(made):
    with event_server(BROKEN, BROKEN, OK) as server:
        told = made(url=f"http://127.0.0.1:{server.port}/")
        put(told, "down")
        until(lambda: counts(told) == (1, 0, 0, 0))
        assert server.bodies == [b'{"event": "down"}\n'] * 3


def test_after_three_tries_it_is_given_up_and_logged_once(made, caplog):
    with event_server(*[BROKEN] * 6, OK) as server:
        told = made(url=f"http://127.0.0.1:{server.port}/hush?hush=1")
        put(told, "down", "degraded")
        until(lambda: counts(told) == (0, 2, 0, 0))
        assert len(server.bodies) == 6
        error = f"on_event_url: 127.0.0.1:{server.port} answered with status 500"
        assert told.describe()["last_error"] == error
        assert [text.startswith(f"{error}; the event is given up.") for text in warnings(caplog)] == [True]
        put(told, "protected")
        until(lambda: counts(told) == (1, 2, 0, 0))
    assert "on_event_url: works again" in caplog.messages
    assert "hush" not in caplog.text + str(told.describe())


def test_what_will_not_change_is_asked_once(made):
    with event_server(REDIRECT) as server:
        told = made(url=f"http://127.0.0.1:{server.port}/")
        put(told, "down")
        until(lambda: counts(told) == (0, 1, 0, 0))
        assert len(server.bodies) == 1


def test_a_command_that_fails_is_run_once_more(made, script, tmp_path, caplog):
    told = made(script('echo x >>"$1/runs"; [ "$(wc -l <"$1/runs")" != 1 ]'))
    put(told, "down")
    until(lambda: counts(told) == (1, 0, 0, 0))
    assert len((tmp_path / "runs").read_text().split()) == 2 and not warnings(caplog)


def test_its_own_words_are_in_the_log_alone(made, script, tmp_path, caplog):
    told = made(script('echo x >>"$1/runs"; echo "hush" >&2; exit 7'))
    put(told, "down", "degraded")
    until(lambda: counts(told) == (0, 2, 0, 0))
    assert len((tmp_path / "runs").read_text().split()) == 4
    assert told.describe()["last_error"] == "on_event_command: ended with status 7"
    (text,) = warnings(caplog)
    assert text.startswith("on_event_command: ended with status 7: hush; the event is given up.")


def test_a_command_that_hangs_costs_its_own_event_only(made, script, tmp_path):
    told = made(script('echo x >>"$1/runs"; [ "$PLOVER_EVENT" = down ] || exit 0; exec sleep 1000'), timeout_s=0.5)
    put(told, "down", "protected")
    until(lambda: counts(told) == (1, 1, 0, 0))
    assert len((tmp_path / "runs").read_text().split()) == 2


def test_a_failure_of_one_keeps_the_other_from_nothing(made, script):
    with event_server(OK) as server:
        told = made(script("exit 1"), f"http://127.0.0.1:{server.port}/")
        put(told, "down")
        until(lambda: counts(told) == (0, 1, 0, 0))
        assert len(server.bodies) == 1


def test_the_oldest_events_are_dropped_and_counted(made, script, tmp_path):
    told = made(script('echo "$PLOVER_EVENT" >>"$1/names"; until [ -e "$1/go" ]; do sleep 0.05; done'))
    put(told, "first")
    until((tmp_path / "names").exists)
    put(told, *(f"event {n}" for n in range(WAITING_MAX + 5)))
    assert counts(told) == (0, 0, 5, WAITING_MAX + 1)
    told._command = script('echo "$PLOVER_EVENT" >>"$1/names"')
    (tmp_path / "go").touch()
    until(lambda: counts(told) == (WAITING_MAX + 1, 0, 5, 0))
    names = (tmp_path / "names").read_text().splitlines()
    assert names == ["first", *(f"event {n}" for n in range(5, WAITING_MAX + 5))]


def test_a_fault_of_ours_is_a_failure_and_no_more(made, monkeypatch):
    monkeypatch.setattr(webhook, "post", lambda *a: 1 // 0)
    told = made(url="http://127.0.0.1:1/")
    put(told, "down", "degraded")
    until(lambda: counts(told) == (0, 2, 0, 0))
    assert "ZeroDivisionError" in told.describe()["last_error"]


# --- the daemon's end ---


def test_what_waits_is_told_before_the_end(made, script, tmp_path):
    told = made(script('echo "$PLOVER_EVENT" >>"$1/names"'))
    put(told, "down", "degraded")
    told.close(20.0)
    assert (tmp_path / "names").read_text().splitlines() == ["down", "degraded"] and counts(told) == (2, 0, 0, 0)


def test_the_end_does_not_wait_for_what_hangs_and_leaves_no_process(made, script, tmp_path, caplog):
    told = made(script('echo $$ >"$1/new"; mv "$1/new" "$1/own"; exec sleep 1000'), timeout_s=500.0)
    put(told, "down", "degraded", "protected")
    until((tmp_path / "own").exists)
    told.close(0.05)
    assert not told._thread.is_alive() and "this daemon ends, and 2 events are not told" in caplog.text
    assert not Path("/proc", (tmp_path / "own").read_text().strip()).exists()


def test_the_end_does_not_wait_for_the_next_try(made, monkeypatch):
    monkeypatch.setattr(hooks, "URL_PAUSES_S", (1000.0,))
    with event_server(BROKEN) as server:
        told = made(url=f"http://127.0.0.1:{server.port}/")
        put(told, "down")
        until(lambda: server.bodies)
        told.close(0.05)
        assert not told._thread.is_alive()


def test_hooks_that_had_nothing_to_tell_end_at_once(made):
    told = made(["/nowhere"])
    told.close(1000.0)
    assert told._thread is None
