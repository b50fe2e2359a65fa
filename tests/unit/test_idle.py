# SPDX-License-Identifier: GPL-3.0-or-later
"""Idleness, seen on real processes; and what systemd is told, on a real socket."""
from __future__ import annotations

import os
import socket
import subprocess
import tempfile
import time

import pytest
from plover.idle import LOOKS, IdleMonitor
from plover.notify import notify

LOOK_S = 0.002
LATE_S = 0.12
WORK_S = 0.03  # so long that being put off the CPU for a moment does not look like rest


def rest_until_idle(monitor, looks=200):
    """How many looks, a rest before each, it took until the monitor saw an idle process."""
    for count in range(1, looks):
        time.sleep(LOOK_S)
        if monitor.look():
            return count
    raise AssertionError("never seen idle")


def work(share=0.5):
    """Keep our own process's CPU busy, however little of it the machine gives us (after LATE_S no look calls it idle)."""
    wall, cpu = time.monotonic(), time.process_time()
    while (elapsed := time.monotonic() - wall) < LATE_S:
        if elapsed >= WORK_S and time.process_time() - cpu >= share * elapsed:
            return


def test_a_resting_process_is_idle_after_some_looks_in_a_row():
    monitor = IdleMonitor(os.getpid())
    assert rest_until_idle(monitor) >= LOOKS
    time.sleep(LOOK_S)
    assert monitor.look()


def test_a_working_process_is_never_idle():
    monitor = IdleMonitor(os.getpid())
    for _ in range(30):
        work()
        assert not monitor.look()


def test_one_busy_look_starts_the_count_anew():
    monitor = IdleMonitor(os.getpid())
    rest_until_idle(monitor)
    work()
    assert not monitor.look()
    assert rest_until_idle(monitor) >= LOOKS


def test_input_starts_the_count_anew():
    monitor = IdleMonitor(os.getpid())
    rest_until_idle(monitor)
    monitor.disturb()
    assert rest_until_idle(monitor) >= LOOKS


def test_looks_in_quick_succession_count_once():
    monitor = IdleMonitor(os.getpid())
    time.sleep(LOOK_S)
    start = time.monotonic()
    looks = [monitor.look() for _ in range(LOOKS + 1)]
    if time.monotonic() - start < 0.0003:
        assert not any(looks)


def test_a_long_time_without_a_look_proves_nothing():
    monitor = IdleMonitor(os.getpid())
    rest_until_idle(monitor)
    time.sleep(0.12)
    assert not monitor.look()


def test_another_process_is_looked_at_and_not_ours():
    child = subprocess.Popen(["sleep", "60"])
    try:
        monitor = IdleMonitor(child.pid)
        for _ in range(200):
            work()  # we are busy, it is not
            if idle := monitor.look():
                break
        assert idle
    finally:
        child.kill()
        child.wait()
    assert monitor.look()  # a vanished process is idle


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
