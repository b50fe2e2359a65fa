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

from lab import disk_guest


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


@pytest.fixture
def disk_group(new_group, tmp_path):
    """A function that makes a protected VM that runs from a disk; the secondary's image is empty at first."""

    def make(
        replica: str = "plover.replica",
        secondary: dict | None = None,
        image_folders: dict | None = None,
        state: str = "protected",
        more_cmdline: str = "",
        more_disk: dict | None = None,
        paths: dict | None = None,
        **settings,
    ):
        guest = disk_guest.build()
        images = {member: (image_folders or {}).get(member, tmp_path) / f"{member}.img" for member in harness.REPLICAS}
        if not paths:
            guest.copy_to(images["primary"])
            with open(images["secondary"], "wb") as file:
                os.truncate(file.fileno(), guest.image.stat().st_size)
        images.update(paths or {})
        own = {member: {"disks": [{"path": str(path), "serial": "system", **(more_disk or {})}]} for member, path in images.items()}
        own["secondary"].update(secondary or {})
        group = new_group(
            own=own,
            guest_kernel=str(guest.kernel),
            guest_initrd=str(guest.initrd),
            guest_cmdline=disk_guest.CMDLINE.format(ip=harness.GUEST_IP, gw=harness.CLIENT_IP) + more_cmdline,
            **settings,
        )
        group.images = images
        group.start(replica=replica)
        group.wait("primary", seconds=120, service=state)
        return group

    return make
