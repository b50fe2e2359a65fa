# SPDX-License-Identifier: GPL-3.0-or-later
"""Which dialect of the COLO loop an installed QEMU speaks: it is asked, in a process without a machine, memory or network.

plover/qemu/colo_dialects.py asks the same of a replica's own QEMU. By the version it cannot be known.
"""

from __future__ import annotations

import json

from .network import tool

ENABLED, RETURN_PATH, NONE, UNKNOWN = "enable-colo", "return-path", "none", ""
OPTIONS = ("-machine", "none", "-nodefaults", "-display", "none", "-S", "-qmp", "stdio")
ASKED = "colo"
COMMANDS = (
    {"execute": "qmp_capabilities"},
    {"execute": "migrate-set-capabilities", "arguments": {"capabilities": [{"capability": "x-colo", "state": True}]}, "id": ASKED},
    {"execute": "quit"},
)


def dialect(binary):
    """``UNKNOWN``: the QEMU could not be asked."""
    said = tool(binary, *OPTIONS, said="".join(json.dumps(command) + "\n" for command in COMMANDS))
    return next(filter(None, map(_answer, said.splitlines())), UNKNOWN)


def _answer(line):
    try:
        answer = json.loads(line)
    except (ValueError, RecursionError):
        return UNKNOWN
    if not isinstance(answer, dict) or answer.get("id") != ASKED:
        return UNKNOWN
    if "return" in answer:
        return ENABLED
    return RETURN_PATH if "return-path" in str(answer.get("error")) else NONE
