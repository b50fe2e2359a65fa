# SPDX-License-Identifier: GPL-3.0-or-later
"""The unprivileged user that QEMU becomes once it has opened everything that needs root: KVM, userfaultfd, images, RAM.

QEMU switches by itself (``-run-with user=`` from 9.0 on, ``-runas`` before). Files that it opens by name later (migration
sockets, device state, overlays) are in folders that belong to root and that the user's group may write to. These are sticky,
so QEMU can remove only its own files.
"""

from __future__ import annotations

import grp
import logging
import os
import pwd
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ..errors import QemuError

if TYPE_CHECKING:
    from ..config.settings import Config

DEFAULT = "plover-qemu"
VERSION_TIMEOUT_S = 20.0
FOLDER_MODE, SOCKET_MODE, FILE_MODE = 0o3770, 0o660, 0o660
log = logging.getLogger("plover")


class QemuUser(NamedTuple):
    name: str
    gid: int

    def share_folder(self, path: Path) -> None:
        """The user may create files there. It may pass through the folder above, but not list it."""
        os.chown(path, 0, self.gid)
        path.chmod(FOLDER_MODE)
        if path.parent.stat().st_uid == 0 and not path.parent.stat().st_mode & 0o001:
            path.parent.chmod(path.parent.stat().st_mode | 0o011)

    def share_file(self, path: Path, mode: int = FILE_MODE) -> None:
        os.chown(path, 0, self.gid)
        path.chmod(mode)


def find(config: Config) -> QemuUser | None:
    """None: QEMU stays root, as the settings say. Raises QemuError if the user is missing."""
    if os.geteuid() != 0 or config.qemu_user == "root":
        return None
    try:
        entry = pwd.getpwnam(config.qemu_user)
        grp.getgrgid(entry.pw_gid)
    except KeyError:
        raise QemuError(
            f"qemu_user: there is no user {config.qemu_user} on this host; role 'qemu' makes {DEFAULT}: run the deploy play"
        ) from None
    return QemuUser(entry.pw_name, entry.pw_gid) if entry.pw_uid else None


def arguments(user: QemuUser, binary: str) -> list[str]:
    """The arguments that make ``binary`` become the user."""
    return ["-run-with", f"user={user.name}"] if major_version(binary) >= 9 else ["-runas", user.name]


def major_version(binary: str) -> int:
    try:
        done = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True, timeout=VERSION_TIMEOUT_S)
        found = re.search(r"version (\d+)\.", done.stdout)
        if found is None:
            raise ValueError(f"it says {done.stdout[:80]!r}")
        return int(found[1])
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise QemuError(f"qemu_binary: '{binary} --version' does not tell a version ({error}); install the distribution's QEMU") from error
