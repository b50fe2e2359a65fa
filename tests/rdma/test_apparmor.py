# SPDX-License-Identifier: GPL-3.0-or-later
"""QEMU under its AppArmor profile, on Debian's kernel, which has AppArmor; this machine's own may not."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

import pytest
import qemu.qmp

from lab.apparmor import PARSER, RULES, tree
from lab.guest_image import build as vm_image
from lab.rdma.guests import Guests

from .conftest import ENV

SETTINGS = {
    "cluster_id": "6f9619ff-8b86-4d01-b42d-00cf4fc964ff",
    "member": "primary",
    "members": {
        n: {"address": f"10.0.0.{i}", "kind": k}
        for i, (n, k) in enumerate({"primary": "replica", "secondary": "replica", "witness": "witness"}.items())
    },
    "preferred_leader": "primary",
    "guest_kernel": "/shared/vmlinuz",
    "guest_initrd": "/shared/initrd.img",
    "guest_mac": "52:54:00:70:6c:01",
    "guest_memory_mib": 64,
    "qemu_supervisor": "child",
    "qemu_apparmor": "on",
    "syncvm_dirty_tracking": "uffd-wp",  # so the library is preloaded; no daemon runs here that would choose
    "state_dir": "/tmp/state",
    "log_dir": "/tmp/log",
}


@pytest.fixture
def host():
    with tempfile.TemporaryDirectory(prefix="plover-apparmor-") as folder:
        group = Guests(Path(folder), ("host",), memory_mib=768)
        try:
            group.start()
            yield group["host"]
        finally:
            group.stop()


def test_qemu_does_its_work_under_its_profile_and_nothing_else(host):
    image = vm_image()
    shutil.copy(image.kernel, host.shared / "vmlinuz")
    shutil.copy(image.initrd, host.shared / "initrd.img")
    shutil.copytree(Path(qemu.qmp.__file__).parents[1], host.shared / "site" / "qemu")
    shutil.copytree(tree() / RULES / "abi", host.shared / "apparmor.d/abi")
    (host.shared / "sbin").mkdir()
    for tool in (tree() / PARSER, Path("/usr/bin/qemu-img")):
        shutil.copy(tool, host.shared / "sbin")
    (host.shared / "settings.json").write_text(json.dumps(SETTINGS))
    env = {**ENV, "PYTHONPATH": f"{ENV['PYTHONPATH']}:/shared/site", "PATH": "/shared/sbin:/usr/sbin:/usr/bin:/sbin:/bin"}
    done = host.run("python3", "/plover/tests/rdma/inside/confined.py", timeout_s=500, **env)
    seen = json.loads(done["out"].splitlines()[-1])
    print(json.dumps(seen, indent=1))
    assert (seen["problem"], seen["before"]) == ("", "") and "qemu_apparmor: is on, but this host cannot confine QEMU" in seen["refused"]
    names = ["plover-qemu-demo", "plover-qemu-other"]
    assert seen["loaded"] == names and seen["labels"] == [f"{name} (enforce)" for name in names]
    assert seen["denied_at_work"] == [] and seen["preloaded"]
    assert seen["export"] == "NBDMAGIC" and seen["dials"] and seen["state_bytes"] > 10_000 and seen["promoted"]
    assert set(seen["free"].values()) == {"done"}, "root can do all that"
    own = seen["confined"].pop("own memory")
    assert own == "done" and set(seen["confined"].values()) <= {"Permission denied", "Operation not permitted"}, seen["confined"]
    assert seen["denied"] > 5, "a denial is seen where those at work were looked for (the kernel logs some only once)"
    assert seen["left"] == [False, False, True]
