# SPDX-License-Identifier: GPL-3.0-or-later
"""What a VM boots from: a kernel from outside, or by SeaBIOS its first disk or its CD."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

DISK, CDROM = "disk", "cdrom"  # guest_boot
ORDERS = (DISK, CDROM)
PATH = re.compile(r"(/[\w./ +:@-]{1,400})?\Z")
IDE_DRIVES_MAX = 4
OF_KERNEL = ("guest_initrd", "guest_cmdline")
BIOS, UEFI = "bios", "uefi"
NO_UEFI = (
    "its variables lie in a flash memory outside the guest's RAM, which no syncvm makes equal, so they would not survive a failover; "
    "use an image that boots by BIOS (most cloud images boot by both)"
)


def problems(values: Mapping[str, Any]) -> list[str]:
    """What the settings of the boot and its drives must fulfil together."""
    return _ide(values) + _source(values)


def _ide(values: Mapping[str, Any]) -> list[str]:
    disks = sum(isinstance(disk, dict) and disk.get("bus") == "ide" for disk in values["disks"])
    if disks + bool(values["guest_cdrom"]) <= IDE_DRIVES_MAX:
        return []
    and_cd = " and the CD" if values["guest_cdrom"] else ""
    return [f"disks: {disks} on bus ide{and_cd} are too many; the machine has room for {IDE_DRIVES_MAX} drives; give some bus virtio-scsi"]


def _source(values: Mapping[str, Any]) -> list[str]:
    if values["guest_kernel"]:
        return [f"guest_boot: is {CDROM}, but guest_kernel is what boots; remove one of the two"] if values["guest_boot"] != DISK else []
    if not values["disks"] and not values["guest_cdrom"]:
        return ["guest_kernel: is missing, and there is no other thing to boot from; give a kernel, a disk in disks, or guest_cdrom"]
    out = [f"{key}: is for a VM with guest_kernel; remove it, or give the kernel as well" for key in OF_KERNEL if values[key]]
    if values["guest_boot"] == CDROM and not values["guest_cdrom"]:
        out.append(f"guest_boot: is {CDROM}, but there is none; give guest_cdrom, or set it to {DISK}")
    return out


def order_of_disk(values: Mapping[str, Any], number: int) -> int | None:
    """SeaBIOS's order of a disk; None: it does not boot from it."""
    return 1 if number == 0 and not values["guest_kernel"] else None


def order_of_cdrom(values: Mapping[str, Any]) -> int | None:
    if values["guest_kernel"]:
        return None
    return 0 if values["guest_boot"] == CDROM else 2
