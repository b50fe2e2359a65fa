# SPDX-License-Identifier: GPL-3.0-or-later
"""A real group with a disk. Each host's image can be told to fail at its n-th write or flush (disk_faults.c)."""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
import subprocess
import time
from pathlib import Path
from unittest import mock

import harness
from harness import REPLICAS

from lab import disk_guest

HERE = Path(__file__).parent
QEMU = "/usr/bin/qemu-system-x86_64"
# Plover's library has acted on the shell already, and taken itself out of its environment. The disk lies below it.
LAUNCHER = """export LD_PRELOAD='{tracking} {library}' PLOVER_UFFD_FILE='{uffd}' PLOVER_FLUSH_FILE='{flush}'
export PLOVER_TEST_DISK_FAULTS='{orders}'
exec {qemu} "$@\""""
WRITE, FLUSH = "write", "flush"
KINDS = (WRITE, FLUSH)
AGAIN_S_MAX = 90.0


class Faults:
    """The orders to one host: struct orders of disk_faults.c."""

    _WHOLE = struct.Struct("=QQiiiiiii")
    _ERROR_AT, _FAILED_AT = 16, 32

    def __init__(self, path: Path, image: Path) -> None:
        found = image.stat()
        path.write_bytes(bytes(mmap.PAGESIZE))
        with open(path, "r+b") as file:
            self._map = mmap.mmap(file.fileno(), mmap.PAGESIZE)
        self._WHOLE.pack_into(self._map, 0, found.st_dev, found.st_ino, *[0] * 7)

    def order(self, kind: str, number: int, error: int, for_ever: bool) -> None:
        """The ``number``-th call from now on fails."""
        self.heal()
        struct.pack_into("=i", self._map, self._FAILED_AT, 0)
        struct.pack_into("=iii", self._map, self._ERROR_AT + 4, KINDS.index(kind), for_ever, number)
        struct.pack_into("=i", self._map, self._ERROR_AT, error)

    def heal(self) -> None:
        struct.pack_into("=i", self._map, self._ERROR_AT, 0)

    @property
    def failed(self) -> int:
        return struct.unpack_from("=i", self._map, self._FAILED_AT)[0]

    @property
    def seen(self) -> tuple[int, int]:
        """Writes and flushes since the beginning."""
        return struct.unpack_from("=ii", self._map, self._FAILED_AT + 4)


def build(library: Path) -> Path:
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o", str(library), str(HERE / "disk_faults.c"), "-ldl"], check=True
    )
    return library


class FaultyDiskGroup(harness.Group):
    def __init__(self, folder: Path, cache: str = "writeback", **more) -> None:
        guest, self.library = disk_guest.build(), build(folder / "disk_faults.so")
        self.images = {member: folder / f"{member}.img" for member in REPLICAS}
        guest.copy_to(self.images["primary"])
        with open(self.images["secondary"], "wb") as file:
            os.truncate(file.fileno(), guest.image.stat().st_size)
        self.faults = {member: Faults(self._orders(folder, member), image) for member, image in self.images.items()}
        own = {
            member: {"disks": [{"path": str(image), "serial": "system", "cache": cache}], "qemu_binary": str(folder / f"qemu-{member}")}
            for member, image in self.images.items()
        }
        super().__init__(
            folder,
            own=own,
            guest_kernel=str(guest.kernel),
            guest_initrd=str(guest.initrd),
            qemu_user="root",
            guest_cmdline=disk_guest.CMDLINE.format(ip=harness.GUEST_IP, gw=harness.CLIENT_IP),
            **more,
        )
        for member in REPLICAS:
            self._script(
                f"qemu-{member}",
                LAUNCHER.format(
                    library=self.library,
                    tracking=harness.ROOT / "native/build/libplover_preload.so",
                    qemu=QEMU,
                    uffd=self.run_folder(member) / "uffd",
                    flush=self.run_folder(member) / "flush-failed",
                    orders=self._orders(folder, member),
                ),
            )

    @staticmethod
    def _orders(folder: Path, member: str) -> Path:
        return folder / f"{member}.faults"

    def start(self, *members: str, replica: str = "plover.replica") -> None:
        for member in members or harness.ADDRESSES:
            more = (
                {}
                if member == "witness"
                else {"LD_PRELOAD": str(self.library), "PLOVER_TEST_DISK_FAULTS": str(self._orders(self.folder, member))}
            )
            with mock.patch.dict(os.environ, more):
                super().start(member, replica=replica)

    def mark(self, member: str) -> str:
        """What the host says about its image: "whole", "missed", ..."""
        with contextlib.suppress(OSError):
            return os.getxattr(self.images[member], "user.plover.mark").decode().partition(" ")[0]
        return ""

    def leads(self, service: str) -> str | None:
        for member in self.daemons:
            status = self.status(member) if member in REPLICAS else {}
            if (status.get("role"), status.get("service")) == ("leader", service):
                return member
        return None

    def protected(self, seconds: float = AGAIN_S_MAX) -> tuple[str, str]:
        """Leader and secondary, once there are both."""
        end = time.monotonic() + seconds
        while not (leader := self.leads("protected")):
            self.check_daemons()
            assert time.monotonic() < end, f"not protected within {seconds} s: {self.story()}"
            time.sleep(0.05)
        return leader, next(member for member in REPLICAS if member != leader)

    def check_daemons(self) -> None:
        ended = {member: daemon.returncode for member, daemon in self.daemons.items() if daemon.poll() is not None}
        assert not ended, f"these daemons ended: {ended}: {self.story()}"

    def compared(self) -> tuple[int, int, int]:
        """Pages that differ, that had differed unnoticed, and disk blocks that differ."""
        report = self.audit(disks=True)
        assert report["disk_blocks"] == disk_guest.IMAGE_MIB << 20 >> 16
        return report["mismatching"], report["untracked"], report["disk_blocks_mismatching"]
