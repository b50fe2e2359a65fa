# SPDX-License-Identifier: GPL-3.0-or-later
"""The unprivileged user of one VM's QEMU. The launcher (plover/qemu_launch) becomes it before QEMU begins.

QEMU gets what it needs as open descriptors, and has no folder of its own: no name that it could change is ever used by root.
Each VM has a user of its own, so a guest that escapes reaches no other VM.
"""

from __future__ import annotations

import grp
import hashlib
import os
import pwd
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ..errors import QemuError

if TYPE_CHECKING:
    from ..config.settings import Config

NAME_MAX = 32  # of a user, for useradd
KVM = "/dev/kvm"
TOOL_TIMEOUT_S = 20.0
REMEDY = "plover-replica@{vm} makes it as it starts ('plover-qemu --make-user {vm}')"


class QemuUser(NamedTuple):
    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]  # further ones

    def give(self, path: Path) -> None:
        """Let it read and write an ordinary file of ours, whose folder is ours. Raises OSError."""
        fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.fchmod(fd, 0o600)
            os.fchown(fd, self.uid, self.gid)
        finally:
            os.close(fd)

    def may(self, path: str, how: str) -> bool:
        """Whether it can use ``path``; ``how`` as in test(1): "r", "x"."""
        words = ["/usr/bin/test", f"-{how}", path]
        done = subprocess.run(words, user=self.uid, group=self.gid, extra_groups=self.groups, check=False, timeout=TOOL_TIMEOUT_S)
        return done.returncode == 0


def default_name(vm: str) -> str:
    """The user of a VM whose settings name none; role ``vm`` removes it with the VM (filter plover_qemu_user)."""
    name = f"plover-{vm}"
    return name if len(name) <= NAME_MAX else f"{name[: NAME_MAX - 9]}-{hashlib.sha256(vm.encode()).hexdigest()[:8]}"


def name_of(config: Config) -> str:
    """``root``: QEMU keeps the daemon's user. So it is in tests, where the daemon is QEMU's parent, unless they name one."""
    return config.qemu_user or ("root" if config.qemu_supervisor == "child" else default_name(config.name))


def find(config: Config) -> QemuUser | None:
    """None: QEMU keeps the daemon's user, as the settings say. Raises QemuError if its user is missing."""
    name = name_of(config)
    if os.geteuid() != 0 or name == "root":
        return None
    try:
        entry = pwd.getpwnam(name)
        grp.getgrgid(entry.pw_gid)
    except KeyError:
        remedy = "create it, or remove the setting" if config.qemu_user else REMEDY.format(vm=config.name)
        raise QemuError(f"qemu_user: there is no user {name} on this host, and QEMU does not run as root in its place; {remedy}") from None
    if not entry.pw_uid:
        raise QemuError(f"qemu_user: {name} is root under another name; write root, or remove the setting")
    groups = {*os.getgrouplist(name, entry.pw_gid), *_group_of_kvm(config)} - {entry.pw_gid}
    return QemuUser(name, entry.pw_uid, entry.pw_gid, tuple(sorted(groups)))


def _group_of_kvm(config: Config) -> set[int]:
    if config.guest_accel != "kvm":
        return set()
    try:
        found = os.stat(KVM)
    except OSError:
        return set()  # QEMU will say so
    mode = stat.S_IMODE(found.st_mode)
    if mode & 0o006 == 0o006:
        return set()
    if found.st_gid == 0 or mode & 0o060 != 0o060:
        raise QemuError(f"guest_accel: no group but root's may use {KVM} (mode {mode:o}); give it to group kvm, as udev's rules do")
    return {found.st_gid}


def of_process(pid: int) -> tuple[int, int]:
    """(user, group) of a running QEMU, which an earlier version may have started as another one. Raises QemuError."""
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
            ids = {key: value.split() for key, _colon, value in (line.partition(":") for line in file) if key in ("Uid", "Gid")}
        return int(ids["Uid"][1]), int(ids["Gid"][1])
    except (OSError, KeyError, ValueError, IndexError) as error:
        raise QemuError(f"cannot see which user QEMU (pid {pid}) is: {error}") from error


def let_in(path: Path, pid: int) -> None:
    """A running QEMU may connect to a socket of ours, which lies in a folder of ours. Raises QemuError."""
    try:
        os.chown(path, *of_process(pid), follow_symlinks=False)
        path.chmod(0o600)
    except OSError as error:
        raise QemuError(f"{path}: QEMU (pid {pid}) cannot be let in: {error.strerror}") from error


def make(config: Config) -> None:
    """Create the VM's user if its settings name none. Raises QemuError."""
    name = name_of(config)
    if config.qemu_user or name == "root" or _exists(name):
        return
    words = ["useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin"]
    try:
        words += ["--comment", f"QEMU of {config.name}", name]
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=TOOL_TIMEOUT_S)
    except (OSError, subprocess.SubprocessError) as error:
        raise QemuError(f"useradd {name}: {error}") from error
    if done.returncode and not _exists(name):  # or another one made it just now
        raise QemuError(f"useradd {name}: {done.stderr.strip()[:200]}")


def _exists(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True
