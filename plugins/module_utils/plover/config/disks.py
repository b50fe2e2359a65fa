# SPDX-License-Identifier: GPL-3.0-or-later
"""The disks of one VM, as the settings name them."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

FORMATS, CACHES, BUSES = ("raw", "qcow2"), ("writeback", "none"), ("virtio-blk", "virtio-scsi", "ide")
DISKS_MAX = 16
KEYS = ("path", "format", "cache", "serial", "bus")
_SERIAL = re.compile(r"[\w.-]{0,20}\Z")
_PATH = re.compile(r"/[\w./ +:@-]{1,400}\Z")


class Disk(NamedTuple):
    """One disk; ``path``: an image file or a block device, on each replica."""

    number: int
    path: str
    format: str = "raw"
    cache: str = "writeback"
    serial: str = ""
    bus: str = "virtio-blk"

    def node(self, kind: str) -> str:
        return f"{kind}{self.number}"

    @property
    def device(self) -> str:
        """QEMU's path of the guest's disk."""
        return f"/machine/peripheral/drive{self.number}" + ("/virtio-backend" if self.bus == "virtio-blk" else "")


def parse(values: list[dict[str, Any]]) -> tuple[Disk, ...]:
    """The disks of checked settings."""
    return tuple(Disk(n, **{key: value[key] for key in KEYS if key in value}) for n, value in enumerate(values))


def problems(values: list[Any]) -> list[str]:
    """Problems of the setting 'disks', one sentence each."""
    out = [] if len(values) <= DISKS_MAX else [f"disks: {len(values)} are too many; at most {DISKS_MAX}"]
    for n, value in enumerate(values):
        where = f"disks[{n}]"
        if not isinstance(value, dict) or not value.get("path"):
            out.append(f"{where}: must be an object with at least 'path'")
            continue
        out += [f"{where}.{key}: unknown; known are {', '.join(KEYS)}" for key in value if key not in KEYS]
        out += [f"{where}.{key}: must be a string" for key in KEYS if not isinstance(value.get(key, ""), str)]
        if any(not isinstance(value.get(key, ""), str) for key in KEYS):
            continue
        if not _PATH.match(value["path"]):
            out.append(f"{where}.path: {value['path']!r} must be an absolute path of letters, digits and ./ +:@-_")
        for key, known in (("format", FORMATS), ("cache", CACHES), ("bus", BUSES)):
            if value.get(key, known[0]) not in known:
                out.append(f"{where}.{key}: {value[key]!r} is not one of {', '.join(known)}")
        if not _SERIAL.match(value.get("serial", "")):
            out.append(f"{where}.serial: {value['serial']!r} must be at most 20 letters, digits and .-_")
    paths = [value["path"] for value in values if isinstance(value, dict) and isinstance(value.get("path"), str)]
    if len(set(paths)) < len(paths):
        out.append("disks: two disks have the same path; give each an image of its own")
    return out
