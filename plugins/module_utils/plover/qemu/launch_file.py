# SPDX-License-Identifier: GPL-3.0-or-later
"""The launch file: what the launcher (plover/qemu_launch) opens, who it becomes, and the QEMU that it then is.

QEMU gets descriptors in place of names. It can open nothing of root's by itself, and needs no folder to write to.
The numbers are QEMU's; they are on its command line.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from pathlib import Path
from typing import Any

from ..config.settings import Config
from ..disks.images import SETS
from ..errors import QemuError
from ..host import apparmor, own_folder
from ..host.qemu_user import QemuUser

LAUNCH = "qemu.json"
CONSOLE = "console.log"
FLUSH_FILE = "flush-failed"  # the preload library writes to it
UFFD_FILE = "uffd"
UFFD_DEVICE = "/dev/userfaultfd"
QMP, NET, CONSOLE_FD, KERNEL, INITRD, UFFD, UFFD_DEVICE_FD, FLUSH, CDROM, SEED = range(20, 30)
FURTHER_NETS = 30  # one for each network card but the first
IMAGES = 40  # two for each disk
CONSOLE_SET, CDROM_SET, SEED_SET = 1, 2, 3  # of descriptors, in QEMU


def qmp_socket(config: Config) -> str:
    return str(config.run_path / "qmp.sock")


def net_sockets(config: Config) -> list[str]:
    """A path for each network card."""
    return [str(config.run_path / f"net{nic.number or ''}.sock") for nic in config.nics]


def net_fd(number: int) -> int:
    """The descriptor of that card's socket."""
    return FURTHER_NETS + number - 1 if number else NET


def descriptors(config: Config) -> dict[int, tuple[str, str]]:
    """Number -> (kind, path); the kinds are in plover/qemu_launch/descriptors.py."""
    out = {
        QMP: ("socket", qmp_socket(config)),
        **{net_fd(number): ("socket", path) for number, path in enumerate(net_sockets(config))},
        CONSOLE_FD: ("console", str(config.log_path / CONSOLE)),
        UFFD: ("note", str(config.run_path / UFFD_FILE)),
        UFFD_DEVICE_FD: ("device", UFFD_DEVICE),
        FLUSH: ("note", str(config.run_path / FLUSH_FILE)),
    }
    for number, kind, path in (
        (KERNEL, "boot", config.guest_kernel),
        (INITRD, "boot", config.guest_initrd),
        (CDROM, "image to read", config.guest_cdrom),
        (SEED, "image to read", config.guest_seed),
    ):
        if path:
            out[number] = (kind, path)
    for disk in config.disk_list:
        out[IMAGES + 2 * disk.number] = ("image", disk.path)
        out[IMAGES + 2 * disk.number + 1] = ("image to read", disk.path)
    return out


def sets(config: Config) -> list[str]:
    """QEMU's arguments that make ``/dev/fdset/N`` of descriptors."""
    out = ["-add-fd", f"fd={CONSOLE_FD},set={CONSOLE_SET}"]
    for path, fd, number in ((config.guest_cdrom, CDROM, CDROM_SET), (config.guest_seed, SEED, SEED_SET)):
        out += ["-add-fd", f"fd={fd},set={number}"] if path else []
    for disk in config.disk_list:
        for fd in (IMAGES + 2 * disk.number, IMAGES + 2 * disk.number + 1):
            out += ["-add-fd", f"fd={fd},set={SETS + disk.number}"]
    return out


def write(config: Config, argv: list[str], env: dict[str, str], user: QemuUser | None) -> Path:
    """Raises QemuError."""
    launch: dict[str, Any] = {
        "argv": argv,
        "env": env,
        "descriptors": {str(number): row for number, row in descriptors(config).items()},
        "user": user and {"uid": user.uid, "gid": user.gid, "groups": user.groups},
        "apparmor": apparmor.wanted(config),
    }
    path = config.run_path / LAUNCH
    try:
        own_folder.write(path, json.dumps(launch).encode())
    except OSError as error:
        raise QemuError(f"run_dir: cannot write {path}: {error.strerror}; free space there") from error
    return path


def make_ram_file(config: Config, user: QemuUser | None) -> None:
    """Guest memory, for QEMU and this daemon alone. Raises QemuError.

    All of it is reserved at once. Otherwise a page that finds no room later kills whoever touches it: QEMU, or this daemon.
    """
    path = config.ram_path
    own_folder.make(path.parent, "shm_dir", 0o711)
    try:
        path.unlink(missing_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(fd, 0, config.guest_memory_mib << 20)
        finally:
            os.close(fd)
        if user:
            user.give(path)
    except OSError as error:
        with contextlib.suppress(OSError):  # what is in the way may be no file at all
            path.unlink(missing_ok=True)
        if error.errno == errno.ENOSPC:
            raise QemuError(_no_room(config)) from error
        raise QemuError(f"shm_dir: cannot make {path}: {error.strerror}") from error


def _no_room(config: Config) -> str:
    room = os.statvfs(config.ram_path.parent)
    return (
        f"shm_dir: {config.ram_path.parent} has {room.f_bavail * room.f_frsize >> 20} MiB free, and the VM's memory takes "
        f"{config.guest_memory_mib} MiB; make that file system larger, or set a smaller memory_mib"
    )
