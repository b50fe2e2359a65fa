# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether an installed QEMU has what the replication of disks needs: it makes a node of each, in a process without a machine.

A list of drivers would not do: distributions build QEMU with drivers that are in it and may not be used.
"""

from __future__ import annotations

import json

from . import colo_loop
from .network import tool

NODES = {
    "quorum": {"vote-threshold": 1, "children": ["below-quorum"]},
    "replication": {"mode": "primary", "file": "below-replication"},
}


def usable(binary):
    """Those of :data:`NODES`; None if the QEMU could not be asked."""
    commands = [{"execute": "qmp_capabilities"}]
    for driver, options in NODES.items():
        commands += [_add("null-co", f"below-{driver}", {}), {**_add(driver, f"the-{driver}", options), "id": driver}]
    commands.append({"execute": "quit"})
    said = tool(binary, *colo_loop.OPTIONS, said="".join(json.dumps(command) + "\n" for command in commands))
    if not said:
        return None
    made = {_made(line) for line in said.splitlines()}
    return [driver for driver in NODES if driver in made]


def _add(driver, name, options):
    return {"execute": "blockdev-add", "arguments": {"driver": driver, "node-name": name, **options}}


def _made(line):
    """The driver whose node was made, if the line says so."""
    try:
        answer = json.loads(line)
    except (ValueError, RecursionError):
        return ""
    return str(answer.get("id")) if isinstance(answer, dict) and "return" in answer else ""
