# SPDX-License-Identifier: GPL-3.0-or-later
"""The facts in a replica's join request: may it become the secondary? Pure."""

from __future__ import annotations

import json
import re
from typing import Any

from ..errors import WireError

DISK_COPY = "disk_copy"  # names of the copies that its images hold and will hold, see disks/local_images.py
DISK_IDS = "disk_ids"  # names of the devices that hold its images, see disks/identity.py
SAYS = "says"  # it can tell what its VM says, for output_release agreed
COLO_LOOP = "colo_loop"  # the dialect of its QEMU's COLO loop: what it is does not matter to the leader
NAMES_MAX = 16
SHOWN = 200  # characters of a fact of the other replica's, in a sentence
_NAME = re.compile(r"[0-9a-f]{32}\Z")  # names of QEMU's bitmaps have this form


def parse(payload: bytes) -> Any:
    """The facts; a dictionary, unless the sender is not one of ours. Raises WireError if it is not JSON."""
    try:
        return json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise WireError(f"malformed join request: {error}") from error


def differences(ours: dict[str, Any], theirs: object) -> str:
    """Facts that must be equal on both replicas and are not, as one sentence; empty if all are equal."""
    if not isinstance(theirs, dict):
        return "its join request is not a JSON object"
    return "; ".join(
        f"{key} is {ascii(theirs.get(key))[:SHOWN]} there and {ours[key]!r} here; make them equal"
        for key in ours
        if key not in (DISK_COPY, DISK_IDS, COLO_LOOP) and ours[key] != theirs.get(key)
    )


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
