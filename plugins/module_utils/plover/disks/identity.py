# SPDX-License-Identifier: GPL-3.0-or-later
"""A block device's worldwide unique name, to detect that two hosts were given the same device.

Only names that are unique by their standard count (NAA, EUI-64, UUID). Serial numbers of virtual disks are not unique, and
hosts cloned from one image have the same volume groups. A file has no such name: QEMU's own lock keeps two QEMUs from
opening one file on a shared file system.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

_UNIQUE = ("naa.", "eui.", "uuid.")
DEPTH_MAX = 8  # of devices over devices
SYS = Path("/sys")


def identity(path: str, sys: Path = SYS) -> str:
    """The device's name; empty if it has none."""
    try:
        status = os.stat(path)
    except OSError:
        return ""
    return _of(sys, status.st_rdev) if stat.S_ISBLK(status.st_mode) else ""


def _of(sys: Path, device: int) -> str:
    try:
        return _name((sys / "dev" / "block" / f"{os.major(device)}:{os.minor(device)}").resolve(strict=True), DEPTH_MAX)
    except OSError:
        return ""


def _name(folder: Path, depth: int) -> str:
    """``folder``: the device's folder in sysfs."""
    if not depth:
        return ""
    partition = _read(folder / "partition")
    if partition:
        disk = _name(folder.parent, depth - 1)
        return disk and f"{disk} partition {partition}"
    for file in ("wwid", "device/wwid"):
        name = _read(folder / file)
        if name.startswith(_UNIQUE):
            return name
    return _mapped(folder, depth)


def _mapped(folder: Path, depth: int) -> str:
    """A device of the mapper (a logical volume, a multipath device) has a name if all devices below it have one."""
    uuid = _read(folder / "dm" / "uuid")
    below = sorted(folder.glob("slaves/*")) if uuid else []
    names = [_name(each.resolve(), depth - 1) for each in below]
    return f"{uuid} on {', '.join(sorted(set(names)))}" if names and all(names) else ""


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()[:200]
    except OSError:
        return ""
