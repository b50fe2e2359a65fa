# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import harness


@pytest.fixture(scope="session", autouse=True)
def native_library():
    subprocess.run(["make", "-s", "-C", str(harness.ROOT / "native")], check=True)


@pytest.fixture
def new_group(tmp_path):
    """A function that makes a group of three in a fresh network namespace; all is gone afterwards."""
    made: list[harness.Group] = []
    harness.make_netns()

    def make(**settings) -> harness.Group:
        made.append(harness.Group(tmp_path, **settings))
        return made[-1]

    yield make
    for group in made:
        group.stop()
    harness.remove_netns()
    shutil.rmtree(f"/dev/shm/plover-test-{os.getpid()}", ignore_errors=True)


@pytest.fixture
def group(new_group):
    """Three members, protected, with Redis up."""
    out = new_group()
    out.start()
    out.wait("primary", service="protected")
    return out
