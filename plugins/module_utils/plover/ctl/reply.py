# SPDX-License-Identifier: GPL-3.0-or-later
"""What a daemon's reply holds, looked at before it is shown: it may be of another version, or nonsense. Pure."""

from __future__ import annotations

import math
from typing import Any

from ..core.status import DOWN, EXIT

Reply = dict[str, Any]
NO_ANSWER = "no answer"
NUMBER_MAX = 1e15
TEXT_MAX = 600
ITEMS_MAX = 16


def at(reply: Any, *keys: str) -> Any:
    """The value below ``keys``; None if there is none."""
    for key in keys:
        reply = reply.get(key) if isinstance(reply, dict) else None
    return reply


def number(reply: Any, *keys: str) -> float | None:
    value = at(reply, *keys)
    fits = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= NUMBER_MAX
    return float(value) if fits and math.isfinite(value) else None


def text(reply: Any, *keys: str) -> str:
    """On one line, without characters that a terminal would obey; empty if it is no text."""
    value = at(reply, *keys)
    value = value[:TEXT_MAX] if isinstance(value, str) else ""
    return "".join(each if each.isprintable() else " " if each.isspace() else "?" for each in value)


def texts(reply: Any, *keys: str) -> list[str]:
    value = at(reply, *keys)
    return [text({"": each}, "") for each in value[:ITEMS_MAX]] if isinstance(value, list) else []


def service_of(reply: Reply) -> str:
    """A word; that of a daemon which does not say one that is known is `down`."""
    if reply.get("ok") is not True:
        return NO_ANSWER
    said = reply.get("service")
    return said if isinstance(said, str) and said in EXIT else DOWN


def exit_status(replies: list[Reply]) -> int:
    """The worst one's; 0 if there is none."""
    return max((EXIT.get(service_of(reply), EXIT[DOWN]) for reply in replies), default=0)


def sentence(reply: Reply) -> str:
    return text(reply, "sentence" if reply.get("ok") is True else "error")
