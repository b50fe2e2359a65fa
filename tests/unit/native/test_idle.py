# SPDX-License-Identifier: GPL-3.0-or-later
"""Idleness, seen on real processes; and what systemd is told, on a real socket."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from array import array

import pytest
from plover.host.notify import notify
from plover.native.buffers import NativeError
from plover.native.idle import LOOK_NS, LOOKS, IdleMonitor
from plover.native.library import load

from lab.paths import ROOT

LIMIT_S = 2.0


@pytest.fixture(autouse=True)
def library(monkeypatch):
    monkeypatch.setenv("PLOVER_NATIVE_DIR", str(ROOT / "native" / "build"))


@pytest.fixture
def child():
    """A process that does what its standard input says: work, or rest; it answers once it does."""
    code = (
        "import os, select\nbusy, line = False, b'-'\nprint(flush=True)\nwhile line:\n"
        "  if not busy or select.select([0], [], [], 0)[0]:\n"
        "    line = os.read(0, 100)\n    busy = line == b'work\\n'\n    print(flush=True)"
    )
    process = subprocess.Popen([sys.executable, "-IS", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    process.stdout.readline()
    yield process
    process.kill()
    process.communicate()


def tell(child, what):
    child.stdin.write(f"{what}\n")
    child.stdin.flush()
    child.stdout.readline()


def waited(monitor, limit_s=LIMIT_S):
    """(was it idle, after how long)"""
    began = time.monotonic()
    return asyncio.run(monitor.wait(limit_s)), time.monotonic() - began


def test_a_resting_process_is_idle_after_some_looks(child):
    idle, after_s = waited(IdleMonitor(child.pid))
    assert idle and after_s >= LOOKS * LOOK_NS / 1e9


def test_a_working_process_is_not_idle_within_the_limit(child):
    tell(child, "work")
    idle, after_s = waited(IdleMonitor(child.pid), 0.05)
    assert not idle and after_s >= 0.05


def test_work_that_ends_is_noticed(child):
    tell(child, "work")
    rested_at: list[float] = []
    threading.Timer(0.1, lambda: (rested_at.append(time.monotonic()), tell(child, "rest"))).start()
    idle, _after_s = waited(IdleMonitor(child.pid), 20.0)
    assert idle and rested_at


def test_another_process_is_looked_at_and_not_ours(child):
    seen = threading.Event()

    def work():
        while not seen.is_set():
            pass

    worker = threading.Thread(target=work)
    worker.start()
    try:
        assert waited(IdleMonitor(child.pid), 20.0)[0] and worker.is_alive()
    finally:
        seen.set()
        worker.join()


def test_input_starts_the_count_anew(child):
    disturbed, every_ns = array("I", (0,)), 30_000_000  # far apart, as the thread that disturbs needs its turn in between

    def disturb():
        while not rests.wait(0.001):
            disturbed[0] += 1

    def wait():
        return load().wait_idle(child.pid, -1, disturbed, LOOKS, every_ns, 0.2, 300_000_000)

    rests = threading.Event()
    thread = threading.Thread(target=disturb)
    thread.start()
    assert not wait()
    rests.set()
    thread.join()
    assert wait()


def test_input_that_is_not_read_yet_counts(child):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        monitor = IdleMonitor(child.pid, ours.fileno())
        ours.send(b"frame")
        assert waited(monitor, 0.05)[0] is False
        theirs.recv(100)
        assert waited(monitor)[0] is True


def test_since_it_was_idle_it_is_undisturbed_until_input_comes(child):
    monitor = IdleMonitor(child.pid)
    assert not monitor.undisturbed
    waited(monitor)
    assert monitor.undisturbed
    monitor.disturb()
    assert not monitor.undisturbed


def test_two_may_wait_at_once_and_the_loop_goes_on(child):
    monitor = IdleMonitor(child.pid)
    tell(child, "work")

    async def both():
        long, short = (asyncio.ensure_future(monitor.wait(limit_s)) for limit_s in (20.0, 0.1))
        ticks = 0
        while not short.done():
            await asyncio.sleep(0.005)
            ticks += 1
        assert not await short and not long.done() and ticks >= 3
        tell(child, "rest")
        return await long

    assert asyncio.run(both())


def test_a_process_that_has_ended_is_idle(child):
    monitor = IdleMonitor(child.pid)
    tell(child, "work")
    threading.Timer(0.05, child.kill).start()
    assert waited(monitor, 20.0)[0]
    child.communicate()
    assert waited(monitor)[0]


@pytest.mark.parametrize("pid, every_ns, looks", [(0, 100, 3), (-5, 100, 3), (1, 0, 3), (1, -1, 3), (1, 100, 0)])
def test_what_cannot_be_waited_for_is_refused(pid, every_ns, looks):
    with pytest.raises(NativeError, match="Invalid argument"):
        load().wait_idle(pid, -1, array("I", (0,)), looks, every_ns, 0.2, 1000)


# --- sd_notify ---


@pytest.fixture
def systemd(monkeypatch):
    """systemd's end of the socket; the path is short, as a UNIX socket's has at most 107 characters."""
    with tempfile.TemporaryDirectory(prefix="plv") as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(f"{folder}/notify")
        sock.settimeout(2.0)
        monkeypatch.setenv("NOTIFY_SOCKET", f"{folder}/notify")
        yield sock


def test_systemd_is_told_in_one_datagram(systemd):
    notify("WATCHDOG=1\nSTATUS=leading; \u20ac")
    assert systemd.recv(1000) == "WATCHDOG=1\nSTATUS=leading; \u20ac".encode()


def test_systemd_is_told_through_an_abstract_socket_too(monkeypatch):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(f"\0plover-test-{os.getpid()}")
        sock.settimeout(2.0)
        monkeypatch.setenv("NOTIFY_SOCKET", f"@plover-test-{os.getpid()}")
        notify("READY=1")
        assert sock.recv(100) == b"READY=1"


@pytest.mark.parametrize("path", ["", "/nowhere/at/all", "/" + "x" * 300, "relative", "@", "/dev/null"])
def test_telling_systemd_never_fails(monkeypatch, path):
    monkeypatch.setenv("NOTIFY_SOCKET", path)
    assert notify("READY=1") is None


def test_without_systemd_nothing_is_told(monkeypatch, systemd):
    monkeypatch.delenv("NOTIFY_SOCKET")
    notify("READY=1")
    systemd.settimeout(0.05)
    with pytest.raises(TimeoutError):
        systemd.recv(100)
