# SPDX-License-Identifier: GPL-3.0-or-later
"""Which notes of the event log the operator is told, and in which words (docs/operations.md, "Hooks"). Pure."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..errors import plain
from .event_log import COLD_START, FAILOVER, FORCED, HANDED_OVER, PANICKED, RE_ELECTED, RESTARTED, SWITCHOVER
from .status import DEGRADED, DOWN, OFF, PROTECTED

VERSION = 1
SERVING = "serving"
WHY_CHARACTERS_MAX = 500
LOSSES = (DEGRADED, DOWN, PANICKED)  # protection, or the service, is lost
# Each event, and its MESSAGE_ID in the journal. Never change one: roles/runtime/files/plover.catalog and operators' filters name them.
MESSAGE_IDS = {
    PROTECTED: "fa7544b79be94a8287dc81cb861d0c90",
    DEGRADED: "93dbe56fc04049cd990ab57211ed60a1",
    DOWN: "74ff3c4748c1408eb65cff863f2d115e",
    OFF: "5b7c3b1f0c2e4a5c9f2f6d1f8a3e7b64",
    FAILOVER: "d8e185d8d84942ceb28d4be2fb3158da",
    SWITCHOVER: "24082f80eb00415f855e30f89560fc13",
    HANDED_OVER: "132362e50c8f4648b7ec1df9f9d36887",
    FORCED: "0ca325aa1c30465b91ecfd13a9dab2dd",
    COLD_START: "4b310eafff3f4d2fb26346fd8d7d8ad7",
    RE_ELECTED: "dbefd623de3e4ccdb957c83cbd50a643",
    SERVING: "d0eb9b4d9bb64e2a903d0c9d9505cd12",
    PANICKED: "879432d1ea8947f59f901c23093af573",
    RESTARTED: "5f10dde696f54fc795cd43cc84128593",
}
# Left out: "first boot", "found leading" and the start of a daemon, with which nothing happens to a VM; and the mode "forced", as the
# view that it comes with is told.
_MODES = (PROTECTED, DEGRADED, DOWN, OFF)
_CAUSES = (FAILOVER, SWITCHOVER, HANDED_OVER, FORCED, COLD_START, RE_ELECTED)
_IN_ENVIRONMENT = ("event", "vm", "member", "role", "view", "leader", "why")
_IN_JOURNAL = ("event", "view", "leader", "role", "why", "before", "outage_ms")

Event = dict[str, Any]


class Standing(NamedTuple):
    """This member at the moment of a note."""

    role: str
    view: int
    leader: str | None


class ToldEvents:
    def __init__(self, vm: str, member: str) -> None:
        self._vm, self._member = vm, member
        self._because = ""  # why the present view began

    def of(self, at: str, kind: str, why: str, facts: dict[str, Any], standing: Standing) -> Event | None:
        """The event that a note of the event log is; None if it is none. ``at``: the time of day."""
        if kind == "view":
            self._because = f"{facts['cause']}: {why}" if why else facts["cause"]
        word = _word(kind, facts)
        if word is None:
            return None
        return {
            "version": VERSION,
            "vm": self._vm,
            "member": self._member,
            "role": standing.role,
            "at": at,
            "event": word,
            "view": facts.get("view", standing.view),
            "leader": facts.get("leader", standing.leader),
            "why": ("; ".join(filter(None, (self._because, why))) if word == SERVING else why)[:WHY_CHARACTERS_MAX],
            "before": facts.get("before"),
            "before_s": facts.get("before_s"),
            "outage_ms": facts.get("outage_ms"),
        }


def _word(kind: str, facts: dict[str, Any]) -> str | None:
    if kind == "mode" and facts["mode"] in _MODES:
        return str(facts["mode"])
    if kind == "view" and facts["cause"] in _CAUSES:
        return str(facts["cause"])
    if kind == "guest":
        return str(facts["what"])
    return SERVING if kind == "serving" and facts["outage_ms"] is not None else None


def is_first_look(event: Event) -> bool:
    """That of a daemon that has just started. It hears nobody yet, so it takes the VM to be down."""
    return bool(event["event"] == DOWN and event["before"] is None)


def sentence(event: Event) -> str:
    """For the log."""
    word, why = event["event"], f": {event['why']}" if event["why"] else ""
    if word == SERVING:
        return f"serving again after {event['outage_ms']:.0f} ms{why}"
    if word in (*_MODES, PANICKED, RESTARTED):
        return f"{word}{why}"
    return f"{word}: {event['leader']} leads view {event['view']}{why}"


def fields(event: Event) -> dict[str, str]:
    """For the journal. The entry's other fields say whose it is."""
    out = {key: event[key] for key in _IN_JOURNAL if event[key] is not None}
    return {"MESSAGE_ID": MESSAGE_IDS[event["event"]], **{f"PLOVER_{key.upper()}": str(value) for key, value in out.items()}}


def environment(event: Event) -> dict[str, str]:
    """PLOVER_EVENT and others, for a command that reads no JSON."""
    return {f"PLOVER_{key.upper()}": plain("" if event[key] is None else str(event[key])) for key in _IN_ENVIRONMENT}
