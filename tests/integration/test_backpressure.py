# SPDX-License-Identifier: GPL-3.0-or-later
"""The VM sends more than the socket to the daemon takes: what waits in QEMU must not change memory while it is copied."""

from __future__ import annotations

import os
import signal
import threading
import time

from harness import connect

CLIENTS, SECONDS, VALUE_BYTES = 4, 8.0, 1 << 20
HELD_UP_S = 0.04  # less than what costs the protection


def reader(stop: threading.Event, errors: list[str]) -> None:
    client = connect()
    while not stop.is_set():
        if client.ask("GET", "big") != b"x" * VALUE_BYTES:
            errors.append("a value came that nobody wrote")
            return


def test_a_daemon_that_is_held_up_under_heavy_output_copies_a_whole_vm(group):
    client, stop, errors = connect(), threading.Event(), []
    assert client.ask("SET", "big", "x" * VALUE_BYTES) == b"+OK"
    readers = [threading.Thread(target=reader, args=(stop, errors)) for _ in range(CLIENTS)]
    for thread in readers:
        thread.start()
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        for member in ("primary", "secondary"):
            pid = group.daemons[member].pid
            os.kill(pid, signal.SIGSTOP)
            time.sleep(HELD_UP_S)
            os.kill(pid, signal.SIGCONT)
            time.sleep(HELD_UP_S)
    stop.set()
    for thread in readers:
        thread.join(30)
    assert not errors
    report = group.audit()
    assert (report["mismatching"], report["untracked"]) == (0, 0), report
    for member in ("primary", "secondary"):
        console = (group.run_folder(member) / "qemu.log").read_text()
        assert "Failed to load" not in console and "last_avail_idx" not in console, console
