# SPDX-License-Identifier: GPL-3.0-or-later
"""Did the host that lost its power lead, and is that why the survivor leads? On a busy machine the survivor may have taken over a moment
before, as the leader was silent: then the demo has shown no host's death, and must not say so."""

from __future__ import annotations

import datetime
import re
from typing import Any

from . import deploy
from .hosts import Host

SILENT = re.compile(r"was silent for (\d+) ms \(detection_ms is (\d+)\)")


def seconds_of(at: str) -> float:
    return datetime.datetime.fromisoformat(at.replace("Z", "+00:00")).timestamp()


def problem(entries: list[dict[str, Any]], survivor: str, lost_at: float) -> str:
    """Of the survivor's history; empty if it stood for election because of the loss at ``lost_at``.

    It stands when the leader has been silent for detection_ms. So if it had stood before, it was not because of the loss.
    """
    views = [entry for entry in entries if entry["kind"] == "view"]
    last = views[-1] if views else {}
    silent = SILENT.search(last.get("why", ""))
    if last.get("leader") != survivor or last.get("cause") != "failover" or silent is None:
        return f"{survivor} has not taken over from a leader that was silent: {last.get('cause', 'no view')}, {last.get('why', '')}"
    stood_at = seconds_of(last["at"]) - int(silent[1]) / 1000 + int(silent[2]) / 1000
    if stood_at < lost_at:
        return f"{survivor} stood for election {lost_at - stood_at:.3f} s before the power loss: view {last['view']}, {last['why']}"
    return ""


def check(host: str, survivor: str) -> None:
    """``host`` has lost its power, and ``survivor`` leads. Raises SystemExit if not because of that."""
    _, history = deploy.ploverctl(survivor, "history", "-n", "20")
    if found := problem(history.get("entries", []), survivor, Host(host).lost_power_at()):
        raise SystemExit(f"this run shows no death of a leader: {found}. The machine is too busy; try again")
