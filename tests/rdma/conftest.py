# SPDX-License-Identifier: GPL-3.0-or-later
"""Three guests with Soft-RoCE for all tests here; they see this work tree as /plover, and a folder of their own as /shared.
"""
from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from lab.rdma.guests import Guests

NAMES = ("primary", "secondary", "witness")
ENV = {"PYTHONPATH": "/plover/plugins/module_utils:/plover", "PLOVER_NATIVE_DIR": "/plover/native/build"}


@pytest.fixture(scope="session")
def guests():
    with tempfile.TemporaryDirectory(prefix="plover-rdma-") as folder:
        group = Guests(Path(folder), NAMES)
        try:
            yield group.start()
        finally:
            group.stop()


@pytest.fixture(scope="session")
def inside(guests):
    """Runs a program of inside/ in a guest; what it printed."""
    def run(guest: str, program: str, *arguments: str, timeout_s: float = 60) -> str:
        path = f"/plover/tests/rdma/inside/{program}"
        return guests[guest].run("python3", path, *arguments, timeout_s=timeout_s, **ENV)["out"]
    return run
