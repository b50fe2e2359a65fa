# SPDX-License-Identifier: GPL-3.0-or-later
"""The folder of a daemon's status socket. The group of plover-exporter may pass through it; nobody else but its owner may.

A daemon that is root shares its folder itself. The witness's does not belong to root, so ``plover-witness --prepare`` shares that.
If the group is made later, ``plover-exporter --prepare`` shares what is there.
"""

from __future__ import annotations

import grp
import os
import stat
from pathlib import Path

GROUP = "plover-exporter"
FOLDER, SOCKET = "status", "status.sock"
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def socket_of(run_path: Path) -> Path:
    """``run_path``: the daemon's own folder, e.g. /run/plover/NAME."""
    return run_path / FOLDER / SOCKET


def make(run_path: Path) -> Path:
    """The folder, ready for the socket; the socket's path. Raises OSError."""
    (run_path / FOLDER).mkdir(parents=True, exist_ok=True, mode=0o700)
    share(run_path)
    return socket_of(run_path)


def share(run_path: Path, group: str = GROUP) -> bool:
    """Let the group in; False if it does not exist, or this user may not. Raises other OSErrors.

    Both folders may belong to an unprivileged user, who could put links there: none is followed.
    """
    try:
        gid = grp.getgrnam(group).gr_gid
    except KeyError:
        return False
    above = os.open(run_path, _OPEN)
    try:
        fd = os.open(FOLDER, _OPEN, dir_fd=above)
        try:
            os.fchown(fd, -1, gid)
            os.fchmod(fd, 0o710)
            os.fchmod(above, stat.S_IMODE(os.fstat(above).st_mode) | 0o001)  # to pass through, not to list
        finally:
            os.close(fd)
    except PermissionError:
        return False
    finally:
        os.close(above)
    return True
