# SPDX-License-Identifier: GPL-3.0-or-later
"""``plover-witness --prepare NAME``, run as root before each start: the witness's files become its user's.

An earlier version ran as root, and a rollback does so again; a secret may have been put there by hand. So each start looks.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import stat
from collections.abc import Iterator
from pathlib import Path

from ..config.settings import CONFIG_DIR
from ..errors import ConfigError, PloverError
from ..host import status_folder
from ..host.console import complain
from ..host.settings_file import load

USER = "plover-witness"


def main(name: str) -> int:
    try:
        prepare(CONFIG_DIR, name)
    except PloverError as error:
        complain(str(error))
        return 1
    except OSError as error:
        complain(f"plover-witness@{name}: {error}")
        return 1
    return 0


def prepare(folder: Path, name: str, user: str = USER) -> None:
    """``folder``: that of the settings. Raises PloverError or OSError."""
    config = load(folder / f"{name}.json")
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise ConfigError(f"there is no user {user} on this host; role 'runtime' makes it") from None
    folder.chmod(stat.S_IMODE(folder.stat().st_mode) | 0o001)  # it may pass through, but not list it
    _give(folder / f"{name}.json", -1, entry.pw_gid, 0o640)
    if config.secret_path.exists():
        _give(config.secret_path, entry.pw_uid, entry.pw_gid, 0o600)
    own = [config.state_path, config.run_path]
    for path in own:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.parent.chmod(stat.S_IMODE(path.parent.stat().st_mode) | 0o001)
    if (folder / name).is_dir():  # root's: its user puts nothing in the place of the folder in it
        os.chown(folder / name, 0, entry.pw_gid)
        (folder / name).chmod(0o710)
        own += [path for path in [folder / name / "tls"] if path.is_dir()]
    (config.run_path / status_folder.FOLDER).mkdir(exist_ok=True, mode=0o700)
    for path in own:
        for fd in _all_below(path):
            os.fchown(fd, entry.pw_uid, entry.pw_gid)
    with contextlib.suppress(OSError):  # the exporter's; a witness does without it
        status_folder.share(config.run_path)


def _give(path: Path, uid: int, gid: int, mode: int) -> None:
    """A file in a folder of root's."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if stat.S_ISREG(os.fstat(fd).st_mode):
            os.fchown(fd, uid, gid)
            os.fchmod(fd, mode)
    finally:
        os.close(fd)


def _all_below(top: Path) -> Iterator[int]:
    """A descriptor of each folder and file. The user may put links there: none is followed, and no file with a second name is taken."""
    for _path, _folders, files, fd in os.fwalk(top, follow_symlinks=False):
        yield fd
        for name in files:
            if not stat.S_ISREG(os.lstat(name, dir_fd=fd).st_mode):
                continue
            file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=fd)
            try:
                found = os.fstat(file)
                if stat.S_ISREG(found.st_mode) and found.st_nlink == 1:
                    yield file
            finally:
                os.close(file)
