# SPDX-License-Identifier: GPL-3.0-or-later
"""Three guests with Soft-RoCE for all tests here; they see this work tree as /plover, and a folder of their own as /shared."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from lab.rdma.guests import Guests

NAMES = ("primary", "secondary", "witness")
ENV = {"PYTHONPATH": "/plover/plugins/module_utils:/plover", "PLOVER_NATIVE_DIR": "/plover/native/build"}


@pytest.fixture
def guests(group):
    """All of them up, whatever the test before did to one."""
    for guest in group.guests.values():
        guest.start()
    for guest in group.guests.values():
        guest.wait_up()
    return group


@pytest.fixture(scope="session")
def group():
    with tempfile.TemporaryDirectory(prefix="plover-rdma-") as folder:
        group = Guests(Path(folder), NAMES)
        try:
            yield group
        finally:
            group.stop()


@pytest.fixture
def inside(guests):
    """Run a program of inside/ in a guest. Returns its output."""

    def run(guest: str, program: str, *arguments: str, timeout_s: float = 60) -> str:
        path = f"/plover/tests/rdma/inside/{program}"
        return guests[guest].run("python3", path, *arguments, timeout_s=timeout_s, **ENV)["out"]

    return run
