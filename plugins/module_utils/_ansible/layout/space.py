# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether what the roles write has a place: the folders, and the images that are copied. Pure."""

from __future__ import annotations

import posixpath


def image_paths(vms):
    """The images of the disks of ``vms``: files, not devices."""
    return [(disk, disk["path"]) for vm in vms for disk in vm.get("disks") or [] if not disk["path"].startswith("/dev/")]


def paths(replicas, limits):
    """What plover_host_info has to look at on a host with these replicas."""
    images = [path for _disk, path in image_paths(replicas)]
    return list(dict.fromkeys([*limits["free_mib"], *images, *map(posixpath.dirname, images)]))


def problems(look, replicas, here, limits, file_mib):
    if not here:
        return []
    needs = [(path, mib, "prechecks_free_mib") for path, mib in limits["free_mib"].items()]
    for disk, path in image_paths(replicas):
        if disk.get("source") and not look["paths"].get(path, {}).get("exists", True):
            needs.append((posixpath.dirname(path), file_mib(disk["source"]), "disks[].path"))
    # What lies on one file system must fit there together.
    systems = {}
    for path, mib, name in needs:
        found = look["paths"].get(path)
        if found:
            systems.setdefault(found["device"], []).append((path, mib, name, found))
    return [text for needs in systems.values() for text in [_system(needs)] if text]


def _system(needs):
    """One line of one file system."""
    path, _mib, name, found = max(needs, key=lambda need: need[1])
    where = ", ".join(dict.fromkeys(need[0] for need in needs))
    total = sum(need[1] for need in needs)
    if found["read_only"]:
        return f"{name}: {where} cannot be written to, its file system is read-only; remount it, or repair its disk"
    if found["free_mib"] < total:
        return (
            f"{name}: the disk is full: {found['free_mib']} MiB are free for {where}, {total} MiB are needed; free some "
            "space there, or put it on a larger disk"
        )
    if not found["free_inodes"]:
        return f"{name}: the disk is full: no inode is free for {where}; remove files there, or put it on another disk"
    return ""
