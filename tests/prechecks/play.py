# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the collection's plays as a user does, and read what they refuse."""

from __future__ import annotations

import json
import re

REFUSED = re.compile(r"^fatal: \[([^\]]+)\]: (FAILED|UNREACHABLE)! => ", re.MULTILINE)


def refusals(output: str) -> list[str]:
    """The lines of all messages with which tasks failed, in their order."""
    decoder, out = json.JSONDecoder(), []
    for found in REFUSED.finditer(output):
        result, _end = decoder.raw_decode(output, found.end())
        message = result.get("msg", result)
        out += message.splitlines() if isinstance(message, str) else [str(message)]
    return out
