# SPDX-License-Identifier: GPL-3.0-or-later
"""Problems of one VM's disks that show in the inventory alone; role disks checks the hosts. Pure."""

from __future__ import annotations

import re

from ...plover.config import image_kinds
from .known import DISK_CHOICES, DISK_KEYS, DISKS_MAX, close_to, unplaced

_PATH = re.compile(r"/[\w./ +:@-]{1,400}\Z")
_SERIAL = re.compile(r"[\w.-]{0,20}\Z")


def problems(at, vm, head):
    disks = vm.get("disks")
    if disks in (None, ""):
        return []
    if not isinstance(disks, list) or not all(isinstance(disk, dict) for disk in disks):
        return [f"{at}.disks: must be a list, each disk like {{path: /var/lib/plover-images/demo.img, size_mib: 1024}}"]
    if len(disks) > DISKS_MAX:
        return [f"{at}.disks: {len(disks)} are too many; at most {DISKS_MAX}"]
    return [f"{at}.disks[{n}].{text}" for n, disk in enumerate(disks) for text in _one(disk, head)]


def _one(disk, head):
    out = [
        f"{key}: is not known; {close_to(key, DISK_KEYS) or 'remove it, known are ' + ', '.join(DISK_KEYS)}"
        for key in disk
        if key not in DISK_KEYS
    ]
    path = disk.get("path") or ""
    if not path:
        out.append("path: is missing; give the image's place on the replicas")
    elif not isinstance(path, str) or not _PATH.match(path):
        out.append(f"path: {path} must be a whole path of letters, digits and ./ +:@-_, like /var/lib/plover-images/demo.img")
    out += [
        f"{key}: {disk[key]} is not one of {', '.join(choices)}"
        for key, choices in DISK_CHOICES.items()
        if disk.get(key, choices[0]) not in choices
    ]
    serial = disk.get("serial", "")
    if not isinstance(serial, str) or not _SERIAL.match(serial):
        out.append(f"serial: {serial} must be a text of at most 20 letters, digits and .-_; put a number in quotes")
    size = disk.get("size_mib")
    if size is not None and (isinstance(size, bool) or not re.match(r"\d{1,9}\Z", str(size)) or int(size) < 1):
        out.append(f"size_mib: {size} must be whole MiB, at least 1")
    return out + _source(disk, head)


def _source(disk, head):
    """``source`` must be an image on this machine, in the disk's format."""
    source = disk.get("source") or ""
    if not source:
        return []
    if isinstance(source, str) and unplaced(source):
        return [f"source: {unplaced(source)}"]
    start = head(source) if isinstance(source, str) else None
    if start is None:
        return [f"source: {source} is not a file on this machine; give the path of the image"]
    image = disk.get("format", "raw")
    if image not in DISK_CHOICES["format"]:
        return []
    wrong = image_kinds.misfit(image, start, getattr(start, "tail", b""))
    return [f"source: {source} {wrong}"] if wrong else _grown(disk, image, source, start)


def _grown(disk, image, source, start):
    """``size_mib`` lengthens the copy of ``source``."""
    size, length = disk.get("size_mib"), image_kinds.length(image, start, getattr(start, "file_bytes", 0))
    if size is None or not re.match(r"\d{1,9}\Z", str(size)) or int(size) << 20 >= length:
        return []
    return [f"size_mib: {size} is smaller than {source}, which has {-(-length >> 20)} MiB; an image can only grow"]
