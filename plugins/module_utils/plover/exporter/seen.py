# SPDX-License-Identifier: GPL-3.0-or-later
"""One VM as its daemon on this host last described it, and its form in the API. Pure.

A daemon's answer may be of another version, or nonsense: each value is looked at before it is shown, and left out if it is not
what it should be.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from ..core.status import DEGRADED, DOWN, EXIT, OFF, PROTECTED
from ..errors import plain

API_VERSION = 1
TEXT_MAX = 600
ITEMS_MAX = 64
NUMBER_MAX = 1e15
ROLES = ("leader", "secondary", "candidate", "joining", "idle", "witness")
ENTRY = ("at", "kind", "why", "view", "leader", "cause", "outage_ms", "mode", "before", "before_s")
Json = dict[str, Any]


def at(reply: Any, *keys: str) -> Any:
    """The value below ``keys``; None if there is none."""
    for key in keys:
        reply = reply.get(key) if isinstance(reply, dict) else None
    return reply


def number(value: Any) -> float | None:
    """A number that can be shown."""
    fits = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= NUMBER_MAX
    return value if fits and math.isfinite(value) else None


def text(value: Any, longest: int = TEXT_MAX) -> str:
    """Printable text of limited length; empty if ``value`` is none."""
    return plain(value[:longest]) if isinstance(value, str) else ""


def texts(value: Any) -> list[str]:
    return [text(each) for each in value[:ITEMS_MAX]] if isinstance(value, list) else []


def numbers(value: Any) -> dict[str, float]:
    """The numbers of an object, by name."""
    found = list(value.items())[:ITEMS_MAX] if isinstance(value, dict) else []
    return {text(key): count for key, each in found if (count := number(each)) is not None}


class Seen(NamedTuple):
    """``reply``: the daemon's status; empty if it has not answered, then ``error`` says why. ``at``: when, by the exporter's clock."""

    name: str
    reply: Json
    error: str
    at: float

    @property
    def answers(self) -> bool:
        return bool(self.reply)

    @property
    def service(self) -> str:
        """An answer without a service that is known is like none."""
        found = self.reply.get("service")
        return found if found in (PROTECTED, DEGRADED, OFF) else DOWN

    @property
    def exit_status(self) -> int:
        """That of `ploverctl status`."""
        return EXIT[self.service]

    def number(self, *keys: str) -> float | None:
        return number(at(self.reply, *keys))


def vm(seen: Seen, now: float) -> Json:
    """One VM of /api/v1/vms; exporter/openapi.json describes it."""
    reply = seen.reply
    return {
        "name": seen.name,
        "answers": seen.answers,
        "age_s": round(max(0.0, now - seen.at), 3),
        "service": seen.service,
        "exit_status": seen.exit_status,
        "since_s": seen.number("since"),
        "reason": text(reply.get("reason")),
        "sentence": text(reply.get("sentence")) if seen.answers else text(seen.error),
        "member": text(reply.get("member")),
        "role": text(reply.get("role")),
        "leader": text(reply.get("leader")),
        "view": seen.number("view"),
        "in_sync": texts(reply.get("in_sync")),
        "linked": texts(reply.get("linked")),
        "encrypted": reply.get("link_security") == "tls",
        "syncvm": _syncvm(seen),
        "held": {"bytes": seen.number("held", "bytes"), "age_s": seen.number("held", "age_s")} if "held" in reply else None,
        "fill": _fill(reply.get("fill")),
        "dropped": numbers(reply.get("dropped")),
        "certificates": _certificates(at(reply, "tls", "certificates")),
        "versions": {"plover": text(at(reply, "versions", "plover"), 40), "qemu": text(at(reply, "versions", "qemu"), 80)},
    }


class Sample(NamedTuple):
    """One point of the plots."""

    at: float
    pause_ms: float | None
    held_bytes: float | None
    syncvm_bytes: float | None

    @classmethod
    def of(cls, seen: Seen) -> Sample:
        pause_ms, staged = (seen.number("last_syncvm", key) for key in ("pause_ms", "bytes"))
        return cls(seen.at, pause_ms, seen.number("held", "bytes"), staged)

    def shown(self, now: float) -> Json:
        return {
            "age_s": round(max(0.0, now - self.at), 3),
            "pause_ms": self.pause_ms,
            "held_bytes": self.held_bytes,
            "syncvm_bytes": self.syncvm_bytes,
        }


def _syncvm(seen: Seen) -> Json | None:
    last = at(seen.reply, "last_syncvm")
    if not isinstance(last, dict):
        return None
    shown = {key: number(last.get(key)) for key in ("pause_ms", "dirty_pages", "divergent_pages", "bytes")}
    kinds = numbers(at(seen.reply, "counters", "sent_bytes"))
    return {
        "count": seen.number("totals", "syncvms"),
        "age_s": seen.number("counters", "last_syncvm_age_s"),
        "sent_bytes": sum(kinds.values()) if kinds else None,
        **shown,
    }


def _fill(fill: Any) -> Json | None:
    if not isinstance(fill, dict):
        return None
    shown = {key: number(fill.get(key)) for key in ("percent", "pages_sent", "disk_bytes", "disk_bytes_total")}
    return {"phase": text(fill.get("phase"), 40), **shown}


def _certificates(found: Any) -> dict[str, Json]:
    shown = list(found.items())[:ITEMS_MAX] if isinstance(found, dict) else []
    return {text(member): {key: number(at(each, key)) for key in ("not_after", "days_left")} for member, each in shown}


def entries(reply: Json) -> list[Json]:
    """The entries of a daemon's history, oldest first."""
    found = reply.get("entries")
    return [_entry(each) for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _entry(entry: Json) -> Json:
    return {key: text(value) if isinstance(value, str) else number(value) for key, value in entry.items() if key in ENTRY}
