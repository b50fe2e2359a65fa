# SPDX-License-Identifier: GPL-3.0-or-later
"""ExecStart of plover-qemu@NAME: become the QEMU that the replica daemon prepared, and its unprivileged user.

``plover-qemu --make-user NAME`` makes that user, ``plover-qemu --confine NAME`` its AppArmor profile; plover-replica@NAME runs both
as it starts.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..config.settings import CONFIG_DIR, Config
from ..errors import PloverError
from ..host import apparmor, own_folder, qemu_user
from ..host.console import complain
from ..host.settings_file import load
from .descriptors import open_all

LAUNCH_BYTES_MAX = 1 << 20
PR_SET_NO_NEW_PRIVS = 38
BEFORE: dict[str, Callable[[Config], None]] = {"--make-user": qemu_user.make, "--confine": apparmor.make}


def main(argv: list[str]) -> int:
    if len(argv) == 2 and argv[0] in BEFORE:
        return make(BEFORE[argv[0]], argv[1])
    if len(argv) != 1:
        complain("usage: plover-qemu NAME | LAUNCH-FILE | --make-user NAME | --confine NAME")
        return 2
    path = Path(argv[0] if "/" in argv[0] else Path(os.environ.get("PLOVER_RUN_DIR", "/run/plover")) / argv[0] / "qemu.json")
    try:
        launch = json.loads(own_folder.read(path, LAUNCH_BYTES_MAX))
        if not isinstance(launch, dict):
            raise ValueError("it is no launch file")
        become(launch)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        complain(f"{path}: {error}; this unit is started by plover-replica@{path.parent.name}, not by hand")
    return 1


def become(launch: dict[str, Any]) -> None:
    """Returns only by raising. A launch file of an earlier version has neither descriptors nor user: its QEMU drops root itself."""
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    user = launch.get("user")
    open_all(launch.get("descriptors") or {}, {user["gid"], *user["groups"]} if user else set())
    if "descriptors" in launch and ctypes.CDLL(None, use_errno=True).prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "the kernel does not take away the way back to root")
    if launch.get("apparmor"):
        apparmor.enter(launch["apparmor"])
    if user:
        os.setgroups(user["groups"])
        os.setresgid(user["gid"], user["gid"], user["gid"])
        os.setresuid(user["uid"], user["uid"], user["uid"])
    os.execve(launch["argv"][0], launch["argv"], {**os.environ, **launch["env"]})


def make(what: Callable[[Config], None], name: str) -> int:
    try:
        what(load(CONFIG_DIR / f"{name}.json"))
    except PloverError as error:
        complain(str(error))
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
