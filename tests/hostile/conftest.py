# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "integration"))
sys.path.insert(0, str(Path(__file__).parent))
import harness
from disk_play import Writer
from faulty_disk import FaultyDiskGroup
from hostile_group import Client, HostileGroup

harness.NETNS = harness.NETNS.replace("test", "hostile")  # beside the integration tests' one


class Stage:
    """A protected group and its client; made anew after a case that it did not survive."""

    kind: type = HostileGroup

    def __init__(self, **settings: object) -> None:
        self.group, self._settings = None, settings

    def set(self) -> None:
        if self.group is None:
            harness.make_netns()
            self.group = self.kind(Path(tempfile.mkdtemp(prefix="plh")), **self._settings)
            self.group.start()
            self.group.protected()
            self.enter()

    def enter(self) -> None:
        """The client, once the group is protected."""
        self.client = Client()
        self.client.ask()

    def strike(self) -> None:
        if self.group:
            self.group.stop()
            harness.remove_netns()
            shutil.rmtree(self.group.folder, ignore_errors=True)
            shutil.rmtree(f"/dev/shm/plover-test-{os.getpid()}", ignore_errors=True)
        self.group = None


class DiskStage(Stage):
    """The same with a disk: real QEMUs, a guest that runs from its image, and a client of its Redis."""

    kind = FaultyDiskGroup

    def enter(self) -> None:
        self.writer = Writer(harness.connect())


@pytest.fixture(scope="session")
def native_library():
    subprocess.run(["make", "-s", "-C", str(harness.ROOT / "native")], check=True)


@pytest.fixture(scope="module")
def _stage(native_library):
    stage = Stage()
    yield stage
    stage.strike()


@pytest.fixture
def stage(_stage, request):
    _stage.set()
    before = request.session.testsfailed
    yield _stage
    if request.session.testsfailed > before:
        _stage.strike()


@pytest.fixture(scope="module")
def _disk_stage(native_library):
    stage = DiskStage()
    yield stage
    stage.strike()


@pytest.fixture
def disk_stage(_disk_stage, request):
    before = request.session.testsfailed
    try:
        _disk_stage.set()
        yield _disk_stage
    finally:
        if request.session.testsfailed > before:
            _disk_stage.strike()
