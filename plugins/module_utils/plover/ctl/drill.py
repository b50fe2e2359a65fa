# SPDX-License-Identifier: GPL-3.0-or-later
"""``ploverctl drill``: a switchover there and back, with a report of what clients would have seen.

The daemon does the first half and asks the other replica to hand the VM back; this looks at its status until that is over.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from ..core.status import DOWN, PROTECTED
from ..host import history
from ..host.console import complain, say
from .reply import Reply, at, number, sentence, service_of, text

LOOK_S = 0.1
WHY_NOT = """\
ploverctl: a drill hands the VM to the other host and back. Clients wait twice, for about as long as 'ploverctl history' tells of
the last switchover, and their connections go on. Between the two the VM is not protected, until the other host has the VM's state
anew. Add --yes to begin."""
Ask = Callable[[str], Reply]


def drill(ask: Ask, timeout_s: float, as_json: bool) -> int:
    """``ask(command)``: the daemon's reply."""
    before = ask("status")
    refused = _refusal(before)
    if not refused:
        began = time.monotonic()
        begun = ask("drill")
        refused = "" if begun["ok"] else _why(begun)
    if refused:
        say(json.dumps({"ok": False, "error": refused})) if as_json else complain(f"ploverctl: {refused}")
        return 1
    modes = _Modes(began)
    error = _wait(ask, modes, began + timeout_s, _other(before))
    report = _report(before, modes, error)
    say(json.dumps(report)) if as_json else say("\n".join(lines(report)))
    return 1 if error else 0


def _refusal(before: Reply) -> str:
    """Why it would be no drill. The daemon judges anew."""
    if before["ok"] is not True:
        return _why(before)
    if at(before, "role") != "leader":
        return f"this host does not lead; run the drill on {text(before, 'leader') or 'the leader once there is one'}"
    if service_of(before) != PROTECTED:
        return f"the VM is {service_of(before)}, not protected: {sentence(before)}"
    return ""


def _why(reply: Reply) -> str:
    said = text(reply, "error") or "the answer makes no sense"
    return f"{said}; its daemon is of an earlier version: restart it" if said.startswith("unknown command") else said


def _other(status: Reply) -> str:
    """The replica that is in sync with the leader."""
    in_sync = at(status, "in_sync")
    names = [text({"": each}, "") for each in in_sync] if isinstance(in_sync, list) else []
    return next((name for name in names if name and name != text(status, "member")), "the other host")


class _Modes:
    """The services that this host saw, one after another, with their lengths."""

    def __init__(self, began: float) -> None:
        self.began, self.ended = began, began
        self.seen: list[tuple[str, float]] = []
        self.last: Reply = {}

    def look(self, status: Reply, now: float) -> None:
        self.last, self.ended = status, now
        mode = service_of(status)
        if not self.seen or self.seen[-1][0] != mode:
            self.seen.append((mode, now))

    def describe(self) -> list[dict[str, Any]]:
        ends = [begin for _mode, begin in self.seen[1:]] + [self.ended]
        return [{"service": mode, "s": round(end - begin, 1)} for (mode, begin), end in zip(self.seen, ends)]


def _wait(ask: Ask, modes: _Modes, end: float, other: str) -> str:
    """Until this host leads again and the VM is protected; why not, if it takes too long."""
    while True:
        status = ask("status")
        modes.look(status, time.monotonic())
        over = at(status, "drill", "over") is True and at(status, "role") == "leader"
        if over and service_of(status) == PROTECTED:
            came = number(status, "drill", "there_ms")
            return "" if came is not None else f"{other} did not hand the VM back: this host took over from it by itself"
        if time.monotonic() >= end:
            return _late(status, over, other)
        time.sleep(LOOK_S)


def _late(status: Reply, over: bool, other: str) -> str:
    if over:
        return f"this host leads again, but the VM is {service_of(status)}: {sentence(status)}"
    return (
        f"{other} has not handed the VM back in time ({sentence(status)}); it may still do so within 10 minutes. If its version is an "
        f"earlier one it does not: then run 'ploverctl switchover' on {other}"
    )


def _report(before: Reply, modes: _Modes, error: str) -> dict[str, Any]:
    after = modes.last
    found: dict[str, Any] = {
        "ok": not error,
        "vm": text(before, "name"),
        "from": text(before, "member"),
        "to": _other(before),
        "before": service_of(before),
        "there": {"outage_ms": number(after, "drill", "there_ms")},
        "back": {"outage_ms": number(after, "drill", "back_ms")},
        "services": modes.describe(),
        "after": service_of(after) if after else DOWN,
        "leader": text(after, "leader"),
        "s": round(modes.ended - modes.began, 1),
    }
    return {**found, "error": error} if error else found


def lines(report: dict[str, Any]) -> list[str]:
    seen = ", ".join(f"{each['service']} for {history.duration(each['s'])}" for each in report["services"] if each["s"])
    return [
        f"drill of {report['vm']}, {history.duration(report['s'])}: " + (report.get("error") or "there and back"),
        f"  there, {report['from']} to {report['to']}: {_waited(report['there'])}",
        f"  back, {report['to']} to {report['from']}: {_waited(report['back'])}",
        f"  service: {report['before']} before; {report['after']} after, {report['leader'] or 'nobody'} leads",
        f"  meanwhile: {seen or 'as before'}",
    ]


def _waited(half: dict[str, Any]) -> str:
    return "not known" if half["outage_ms"] is None else f"clients waited {half['outage_ms']:.0f} ms"
