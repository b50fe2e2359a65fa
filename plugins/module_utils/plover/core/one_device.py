# SPDX-License-Identifier: GPL-3.0-or-later
"""Were both replicas given one and the same device? (disks/identity.py says what each device is called.)"""
from __future__ import annotations


def one_for_both(ours: object, theirs: object, paths: list[str]) -> str:
    """``ours``, ``theirs``: names of each host's devices. Which of ours is also theirs, and what to do; empty if none is."""
    if not isinstance(ours, list) or not isinstance(theirs, list):
        return ""
    for path, name in zip(paths, ours):
        if name and name in theirs:
            return (f"disks: {path} here is the same device as one of its own ({name}); each replica needs a device of its "
                    "own, as the copy would overwrite the VM's disk with itself: set 'path' on one of them to another one")
    return ""
