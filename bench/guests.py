# SPDX-License-Identifier: GPL-3.0-or-later
"""The guests of `make bench-services`, as settings of a VM.

``memory``: the lab's guest: Redis, a web server and a name server, no disk.
``disk``: the lab's guest with PostgreSQL, on a disk of this machine with pgbench's tables in it.
"""

from __future__ import annotations

import contextlib
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from pg8000.exceptions import Error
from pg8000.native import Connection

from lab import disk_guest, guest_image
from lab.paths import BUILD, CACHE

from . import dns_guest
from .hosts import CLIENT_IP, GUEST_IP
from .workloads import DATABASE, SCALE

ANSWER_S = 5.0
GUESTS = ("memory", "disk")


class Guest(NamedTuple):
    """``answers``: does it serve? ``disk``: the guest whose image is copied to the primary's disk, if it has one."""

    name: str
    kernel: Path
    initrd: Path
    cmdline: str
    answers: Callable[[], bool]
    disk: disk_guest.DiskGuest | None = None

    def settings(self) -> dict[str, Any]:
        """Those that all members have."""
        return {
            "guest_kernel": str(self.kernel),
            "guest_initrd": str(self.initrd),
            "guest_cmdline": self.cmdline.format(ip=GUEST_IP, gw=CLIENT_IP),
        }

    def place(self, folder: Path, member: str) -> dict[str, Any]:
        """A member's own: its disk, made in ``folder``. The secondary's is empty: it gets the primary's when it joins."""
        if self.disk is None:
            return {}
        path = folder / f"{member}.img"
        if member == "primary":
            self.disk.copy_to(path)
        else:
            with open(path, "xb") as file:
                file.truncate(self.disk.image.stat().st_size)
        return {"disks": [{"path": str(path), "serial": "system"}]}


def services_answer() -> bool:
    try:
        for port, question, answer in ((6379, b"PING\r\n", b"+PONG\r\n"), (80, b"HEAD / HTTP/1.0\r\n\r\n", b"HTTP/1.0 200")):
            with socket.create_connection((GUEST_IP, port), ANSWER_S) as sock:
                sock.sendall(question)
                if not sock.recv(64).startswith(answer):
                    return False
        return dns_guest.answers(GUEST_IP, ANSWER_S)
    except OSError:
        return False


def postgres_answers() -> bool:
    try:
        with contextlib.closing(Connection("postgres", host=GUEST_IP, database=DATABASE, timeout=ANSWER_S)) as connection:
            return connection.run("SELECT 1") == [[1]]
    except (OSError, Error):
        return False


def guest(name: str) -> Guest:
    """Built, or from the cache. The disk has pgbench's tables once tables.py has made them."""
    if name == "memory":
        image = dns_guest.build()
        cmdline = f"{guest_image.CMDLINE} plover.web rdinit={dns_guest.INIT}"
        return Guest(name, image.kernel, image.initrd, cmdline, services_answer)
    disk = disk_guest.build()
    if with_tables(disk).exists():
        disk = disk._replace(image=with_tables(disk))
    return Guest(name, disk.kernel, disk.initrd, disk_guest.CMDLINE, postgres_answers, disk)


def with_tables(disk: disk_guest.DiskGuest) -> Path:
    """Where the lab's disk is kept with pgbench's tables in it."""
    return CACHE / f"bench-{disk.kernel.parent.name}-scale-{SCALE}.img"


def folder_of_disks() -> tempfile.TemporaryDirectory:
    """On the machine's own disk: a service's writes must wait for a real disk, not for memory."""
    BUILD.mkdir(exist_ok=True)
    return tempfile.TemporaryDirectory(prefix="bench-disks-", dir=BUILD)
