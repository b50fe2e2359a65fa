# SPDX-License-Identifier: GPL-3.0-or-later
"""One run of the operator's command, by real processes: what it gets, how it ends, and what it leaves behind."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest
from plover.host import hook_command

NEVER = threading.Event()


def run(tmp_path, script, text=b'{"event": "down"}\n', timeout_s=60.0, ends=NEVER, **environment):
    path = tmp_path / "hook"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o700)
    return hook_command.run([str(path), str(tmp_path)], text, environment, timeout_s, ends)


def gone(pid):
    """No process, or one that has ended and that nobody has reaped yet."""
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


def until(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_it_gets_the_text_and_the_variables_and_nothing_of_the_daemons(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/daemon")
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/systemd/notify")
    assert run(tmp_path, 'cat >"$1/got"; env >"$1/env"; pwd >"$1/pwd"', PLOVER_EVENT="cold start") is None
    assert (tmp_path / "got").read_bytes() == b'{"event": "down"}\n'
    assert (tmp_path / "pwd").read_text() == "/\n"
    found = dict(line.split("=", 1) for line in (tmp_path / "env").read_text().splitlines())
    assert found["PLOVER_EVENT"] == "cold start" and found["PATH"].startswith("/usr/local/sbin:")
    assert not {"PYTHONPATH", "NOTIFY_SOCKET", "HOME"} & found.keys()


def test_one_that_reads_nothing_succeeds(tmp_path):
    assert run(tmp_path, "exit 0", b"x" * 60_000) is None


def test_a_failed_exit_is_told_with_its_last_words_and_may_be_tried_again(tmp_path):
    failure = run(tmp_path, 'for n in 1 2 3; do echo "line $n"; done; printf "no \\033[2Jroute" >&2; exit 3')
    assert (failure.kind, failure.again) == ("ended with status 3", True)
    assert failure.detail == "line 1 line 2 line 3 no  [2Jroute"
    assert run(tmp_path, "exit 1").detail == "it said nothing"
    assert run(tmp_path, "kill -9 $$").kind == "ended with status -9"


def test_output_without_end_is_bounded_and_does_not_keep_it_from_being_ended(tmp_path):
    failure = run(tmp_path, "yes", timeout_s=0.3)
    assert failure.kind == "took longer than 0 s" and not failure.again
    failure = run(tmp_path, "head -c 300000 /dev/zero | tr '\\0' x; exit 1")
    assert len(failure.detail) == hook_command.OUTPUT_CHARACTERS_MAX


def test_one_that_hangs_is_ended_with_all_that_it_started(tmp_path):
    began = time.monotonic()
    failure = run(tmp_path, 'sleep 1000 & echo $! >"$1/child"; echo $$ >"$1/own"; trap "" TERM; wait', timeout_s=1.0)
    assert (failure.kind, failure.again) == ("took longer than 1 s", False) and time.monotonic() - began < 100
    for name in ("child", "own"):
        until(lambda name=name: gone(int((tmp_path / name).read_text())))


def test_what_it_leaves_running_is_ended_though_it_succeeded(tmp_path):
    assert run(tmp_path, 'sleep 1000 & echo $! >"$1/child"; exit 0') is None
    until(lambda: gone(int((tmp_path / "child").read_text())))


def test_it_is_ended_with_the_daemon(tmp_path):
    ends = threading.Event()

    def end():
        until((tmp_path / "own").exists)
        ends.set()

    thread = threading.Thread(target=end)
    thread.start()
    failure = run(tmp_path, 'echo $$ >"$1/new"; mv "$1/new" "$1/own"; exec sleep 1000', timeout_s=500, ends=ends)
    thread.join()
    assert (failure.kind, failure.again) == ("was ended with this daemon", False)
    until(lambda: gone(int((tmp_path / "own").read_text())))


@pytest.mark.parametrize(
    "argv, why", [(["/nowhere/hook"], "No such file"), (["/etc/passwd"], "Permission denied"), (["/bin/a\0b"], "null byte")]
)
def test_one_that_cannot_be_run_is_not_tried_again(argv, why):
    failure = hook_command.run(argv, b"", {}, 20.0, NEVER)
    assert failure.kind.startswith("cannot be run (") and why in failure.kind and not failure.again


def test_no_descriptor_is_left_open(tmp_path):
    run(tmp_path, "exit 0")
    before = sorted(os.listdir("/proc/self/fd"))
    for script in ("exit 0", "exit 1"):
        run(tmp_path, script)
    hook_command.run(["/nowhere/hook"], b"", {}, 20.0, NEVER)
    assert sorted(os.listdir("/proc/self/fd")) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="a daemon that runs before others is root's")
def test_it_does_not_run_before_others(tmp_path):
    nice, killed = os.nice(0), Path("/proc/self/oom_score_adj").read_text()
    try:
        os.setpriority(os.PRIO_PROCESS, 0, -5)
        Path("/proc/self/oom_score_adj").write_text("-500")
    except OSError:
        pytest.skip("not allowed here")
    try:
        # It looks when its own process is calm; what it starts from then on is calm, too.
        script = 'while [ "$(cat /proc/$$/oom_score_adj)" != 0 ]; do sleep 0.01; done; nice >"$1/nice"'
        assert run(tmp_path, script) is None
        assert (tmp_path / "nice").read_text().strip() == str(hook_command.NICE)
    finally:
        os.setpriority(os.PRIO_PROCESS, 0, nice)
        Path("/proc/self/oom_score_adj").write_text(killed)
