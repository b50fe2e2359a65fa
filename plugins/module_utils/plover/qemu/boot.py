# SPDX-License-Identifier: GPL-3.0-or-later
"""QEMU's arguments for what the VM boots from: a kernel, or firmware with a disk or a CD; and the drives that are only read.

These drives need no replication: both hosts have the same file, and nobody writes to it. The facts say whether it is the same.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from typing import Any

from ..config import boot
from ..config.settings import Config
from ..disks.monitor import Monitor
from ..errors import QemuError
from .launch_file import CDROM_SET, INITRD, KERNEL, SEED_SET

READ_BYTES = 1 << 20


def loading(config: Config) -> list[str]:
    if not config.guest_kernel:
        return ["-boot", "strict=on"]  # from the drives with a bootindex alone, never by the network
    out = ["-kernel", f"/proc/self/fd/{KERNEL}"]
    if config.guest_initrd:
        out += ["-initrd", f"/proc/self/fd/{INITRD}"]
    if config.guest_cmdline:
        out += ["-append", config.guest_cmdline]
    return out


def drives(config: Config) -> list[str]:
    """Behind the disks: they keep their names in the guest."""
    out: list[str] = []
    if config.guest_cdrom:
        order = boot.order_of_cdrom(config.values)
        first = "" if order is None else f",bootindex={order}"
        out += [*_read_only("cdrom", CDROM_SET), "-device", f"ide-cd,id=cdrom,bus=ide.1,drive=cdrom{first}"]
    if config.guest_seed:
        out += [*_read_only("seed", SEED_SET), "-device", "virtio-blk-pci,id=seed,drive=seed,serial=cloud-init"]
    if config.guest_rng:
        out += ["-object", "rng-builtin,id=rng0", "-device", "virtio-rng-pci,id=rng,rng=rng0"]
    return out


async def facts(config: Config, qmp: Monitor) -> dict[str, Any]:
    """What must be equal on both replicas, of a running QEMU: of what it has open, as another file may be in that place by now.

    As earlier versions know nothing of it, only what is there is told.
    """
    out: dict[str, Any] = {"guest_rng": True} if config.guest_rng else {}
    files = {key: number for key, number in (("guest_cdrom", CDROM_SET), ("guest_seed", SEED_SET)) if getattr(config, key)}
    if files:  # QEMU has moved the descriptors that it got
        fds = {row["fdset-id"]: row["fds"][0]["fd"] for row in await qmp.execute("query-fdsets") if row["fds"]}
        for key, number in files.items():
            out[f"{key}_sha256"] = await asyncio.to_thread(_digest, key, f"/proc/{qmp.pid}/fd/{fds.get(number)}")
    return out


def _digest(key: str, path: str) -> str:
    out = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while data := file.read(READ_BYTES):
                out.update(data)
    except OSError as error:
        raise QemuError(f"{key}: cannot be read: {error.strerror}") from error
    return out.hexdigest()


def _read_only(name: str, number: int) -> list[str]:
    file = {"driver": "file", "filename": f"/dev/fdset/{number}", "read-only": True}
    return ["-blockdev", json.dumps({"driver": "raw", "node-name": name, "read-only": True, "file": file})]
