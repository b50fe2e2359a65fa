# SPDX-License-Identifier: GPL-3.0-or-later
"""The guest's panic device: on QEMU's command line only where on_crash asks for it, and the same on both replicas."""

from __future__ import annotations

import asyncio

import pytest
from plover.config.panics import DEVICE, has_device
from plover.config.settings import Config
from plover.core.join_request import differences
from plover.errors import QemuError
from plover.qemu import panic_device
from plover.qemu.process import command_line

from tests.sim.world import group


@pytest.mark.parametrize("on_crash", ["ignore", "keep", "restart", "stop"])
def test_only_who_asks_for_it_has_it(on_crash):
    config = Config({**group("primary"), "on_crash": on_crash})
    words = " ".join(command_line(config, incoming=False))
    assert has_device(config.values) == (on_crash != "ignore") == ("-device pvpanic,id=panic -action panic=none" in words)
    assert ("panic" in words) == (on_crash != "ignore")
    assert "panic" not in " ".join(command_line(Config(group("primary")), incoming=True))


def test_both_replicas_have_it_or_neither():
    """An earlier version has none, and says nothing of it."""
    assert differences({DEVICE: True}, {DEVICE: True}) == differences({DEVICE: False}, {}) == ""
    for ours, theirs in ((True, False), (False, True)):
        assert differences({DEVICE: ours}, {DEVICE: theirs}) == f"{DEVICE} is {theirs} there and {ours} here; make them equal"
    assert differences({DEVICE: True}, {}) == f"{DEVICE} is False there and True here; make them equal"


class Asked:
    pid = 0

    def __init__(self, error: Exception | None = None) -> None:
        self._error = error

    async def execute(self, command, **arguments):
        assert (command, arguments["path"]) == ("qom-get", "/machine/peripheral/panic")
        if self._error:
            raise self._error
        return "pvpanic"


def test_the_running_qemu_says_whether_it_is_there():
    assert asyncio.run(panic_device.is_there(Asked()))
    assert not asyncio.run(panic_device.is_there(Asked(QemuError("Device 'panic' not found"))))
