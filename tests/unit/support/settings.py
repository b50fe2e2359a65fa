# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings of a group of three, as few as there must be."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

from lab.secret_file import secret_file

MEMBERS = {
    "primary": {"address": "127.0.0.1", "kind": "replica"},
    "secondary": {"address": "127.0.0.2", "kind": "replica"},
    "witness": {"address": "127.0.0.3", "kind": "witness"},
}


@cache
def open_file() -> str:
    """A secret's file that lets everybody in: most tests are not about secrets."""
    folder = tempfile.mkdtemp(prefix="plover-open-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return secret_file(Path(folder), "open")


def settings(member: str, **more) -> dict:
    return {
        "name": "demo",
        "cluster_id": "6f9619ff-8b86-4d01-b42d-00cf4fc964ff",
        "member": member,
        "members": MEMBERS,
        "preferred_leader": "primary",
        "guest_kernel": "/k",
        "guest_mac": "52:54:00:70:6c:01",
        "secret_file": open_file(),
        "qemu_user": "root",
        **more,
    }
