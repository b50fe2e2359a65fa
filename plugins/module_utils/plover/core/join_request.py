# SPDX-License-Identifier: GPL-3.0-or-later
"""The facts in a replica's join request: may it become the secondary? Pure."""

from __future__ import annotations

import json
import re
from typing import Any

from ..config.panics import DEVICE
from ..errors import WireError

DISK_COPY = "disk_copy"  # names of the copies that its images hold and will hold, see disks/local_images.py
DISK_IDS = "disk_ids"  # names of the devices that hold its images, see disks/identity.py
SAYS = "says"  # it can tell what its VM says, for output_release agreed
COLO_LOOP = "colo_loop"  # the dialect of its QEMU's COLO loop: what it is does not matter to the leader
MACHINE, MACHINE_TYPE = "guest_machine", "machine_type"  # the setting ("pc"), and what it means to that QEMU ("pc-i440fx-7.2")
QEMU_VERSION, CPU = "qemu_version", "guest_cpu"
VAGUE_CPUS = ("max", "host")  # what they are is not part of the machine type
NEWER_BELOW = (11,)  # a VM goes to a newer QEMU as far as that was tested (tests/integration/test_engines.py); 11 has another COLO loop
FURTHER_NICS = "further_nics"  # what the guest sees of its network cards but the first
EARLIER = {"guest_mtu": 0, "guest_topology": "", FURTHER_NICS: [], DEVICE: False}  # what it is beside a version that does not tell it
NAMES_MAX = 16
SHOWN = 200  # characters of a fact of the other replica's, in a sentence
_VERSION = re.compile(r"\d{1,4}\.\d{1,4}\.\d{1,4}\Z", re.ASCII)
_NAME = re.compile(r"[0-9a-f]{32}\Z")  # names of QEMU's bitmaps have this form


def parse(payload: bytes) -> Any:
    """The facts; a dictionary, unless the sender is not one of ours. Raises WireError if it is not JSON."""
    try:
        return json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise WireError(f"malformed join request: {error}") from error


def differences(ours: dict[str, Any], theirs: object) -> str:
    """Facts that must be equal on both replicas and are not, as one sentence; empty if it may join. Of an earlier version, which tells
    no machine type, QEMU must be the same."""
    if not isinstance(theirs, dict):
        return "its join request is not a JSON object"
    theirs = {**EARLIER, **theirs}
    typed = isinstance(theirs.get(MACHINE_TYPE), str) and MACHINE_TYPE in ours
    apart = (DISK_COPY, DISK_IDS, COLO_LOOP, MACHINE_TYPE, *((MACHINE, QEMU_VERSION) if typed else ()))
    out = _of_qemu(ours, theirs) if typed else []
    out += [
        f"{key} is {ascii(theirs.get(key))[:SHOWN]} there and {ours[key]!r} here; make them equal"
        for key in ours
        if key not in apart and ours[key] != theirs.get(key)
    ]
    return "; ".join(out)


def _of_qemu(ours: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    """A newer QEMU may take over from an older one, if both show the guest the same machine."""
    out = []
    there, here = theirs[MACHINE_TYPE], ours[MACHINE_TYPE]
    if there != here:
        out.append(f"{MACHINE} is {ascii(there)[:SHOWN]} there and {here!r} here, where the VM runs; set it to {here!r} there")
    there, here = theirs.get(QEMU_VERSION), ours.get(QEMU_VERSION)
    if there != here and not _newer(there, here):
        out.append(
            f"{QEMU_VERSION} is {ascii(there)[:SHOWN]} there and {here!r} here; a running VM goes to a newer QEMU, below "
            f"{NEWER_BELOW[0]}, and never to an older one: make them equal, or update QEMU there"
        )
    elif there != here and str(ours.get(CPU)).partition(",")[0] in VAGUE_CPUS:
        out.append(f"{CPU} is {ours[CPU]!r}, which differs between QEMU {here} here and {there} there; name a model, such as qemu64")
    return out


def _newer(there: object, here: object) -> bool:
    theirs, ours = _numbers(there), _numbers(here)
    return ours is not None and theirs is not None and ours < theirs < NEWER_BELOW


def _numbers(version: object) -> tuple[int, ...] | None:
    """Of "7.2.22"; None if it is none."""
    if not isinstance(version, str) or not _VERSION.match(version):
        return None
    return tuple(int(part) for part in version.split("."))


def one_for_both(ours: object, theirs: object, paths: list[str]) -> str:
    """``ours``, ``theirs``: names of each host's devices (disks/identity.py). Which device is on both hosts, and the remedy;
    empty if none is."""
    if not isinstance(ours, list) or not isinstance(theirs, list):
        return ""
    for path, name in zip(paths, ours):
        if name and name in theirs:
            return (
                f"disks: {path} here is the same device as one of its own ({name}); each replica needs a device of its "
                "own, as the copy would overwrite the VM's disk with itself: set 'path' on one of them to another one"
            )
    return ""


def copies(said: object) -> tuple[tuple[str, ...], str] | None:
    """Names of the copies that a joiner has, and of the one that it will get; None if it names none."""
    if not isinstance(said, dict):
        return None
    held, name = said.get("held"), said.get("next")
    if not isinstance(held, list) or not _is_name(name) or not all(_is_name(each) for each in held[:NAMES_MAX]):
        return None
    return tuple(held[:NAMES_MAX]), str(name)


def _is_name(value: object) -> bool:
    return isinstance(value, str) and _NAME.match(value) is not None
