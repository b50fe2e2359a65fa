# SPDX-License-Identifier: GPL-3.0-or-later
"""A program is slow, and ends while the daemon itself hangs: both its end and its time-out are news at once then. Seen with nft under KVM
on a starved host. That is an error of that program, or none, and not the end of the daemon."""

from __future__ import annotations

import asyncio
import time

import pytest
from plover.dataplane import tap, tap_filter
from plover.errors import NetworkError, QemuError
from plover.qemu import process

SLOW = "#!/bin/sh\nsleep 0.15\n"


def error_of(call):
    """``call`` begins; 50 ms later the whole daemon hangs until after the program's end and its time limit."""

    async def to_its_end():
        asyncio.get_running_loop().call_later(0.05, time.sleep, 0.5)
        try:
            await call
        except (NetworkError, QemuError) as error:
            return str(error)
        return ""

    return asyncio.run(to_its_end())


def is_harmless(error):
    """It ended in time, or it is said to be late: which of the two is chance."""
    return not error or "took longer than 0.1 s" in error


@pytest.fixture
def program(tmp_path):
    path = tmp_path / "systemctl"
    path.write_text(SLOW)
    path.chmod(0o755)
    return path


def test_nft(program, monkeypatch):
    monkeypatch.setattr(tap_filter, "_nft_path", lambda: str(program))
    monkeypatch.setattr(tap_filter, "NFT_TIMEOUT_S", 0.1)
    assert is_harmless(error_of(tap_filter._nft("", "list", "tables")))


def test_a_script_of_the_tap(program, monkeypatch):
    monkeypatch.setattr(tap, "SCRIPT_TIMEOUT_S", 0.1)
    device = tap.Tap.__new__(tap.Tap)  # without the device itself, which needs a network namespace
    device.name, device.bridge = "plover0", "br0"
    assert is_harmless(error_of(device._script(str(program), "network_ifup")))


def test_systemctl(program, monkeypatch):
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    monkeypatch.setattr(process, "START_TIMEOUT_S", 0.1)
    supervisor = process.SystemdSupervisor.__new__(process.SystemdSupervisor)
    supervisor._unit = "plover-qemu@demo.service"
    assert is_harmless(error_of(supervisor._systemctl("start")))
