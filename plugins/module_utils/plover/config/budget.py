# SPDX-License-Identifier: GPL-3.0-or-later
"""One time budget for a failover. Every time-out of the group is derived from it, or checked against it. Pure.

    leader dies ──detection──▶ noticed ──election──▶ elected ──fencing──▶ old host fenced ──promotion──▶ VM serves
    └──────────────────────────────── failover_budget_ms ────────────────────────────────────────────────────────┘

A setting that is given is used as it is; one that is not given is derived. Promotion gets the rest of the budget.
Fencing has a part only with an external agent. Views always fence, and take no time (docs/fencing.md).
The watchdog has no part, as nobody waits for it. But it must not reset a host because of a stall shorter than the budget.
"""

from __future__ import annotations

from typing import Any, NamedTuple

PROMOTION_MS_MIN = 200  # leave the COLO loop, run the TAP's script, announce: measured, up to half of this
HEARTBEATS_MIN = 3  # so that one lost or late heartbeat does not make the leader count as dead
MS_MAX = {
    "detection_ms": 60_000,
    "heartbeat_ms": 10_000,
    "peer_timeout_ms": 60_000,
    "election_ms": 90_000,
    "syncvm_timeout_ms": 120_000,
    "fence_timeout_ms": 600_000,
}
DERIVED = {
    "detection_ms": "a tenth of failover_budget_ms",
    "heartbeat_ms": "a fifth of detection_ms",
    "election_ms": "1.5 x detection_ms",
    "peer_timeout_ms": "4 x detection_ms",
    "syncvm_timeout_ms": "3 x failover_budget_ms",
    "fence_timeout_ms": "with a fence_policy, a third of the budget after detection and election; else 0",
}


class Budget(NamedTuple):
    """Milliseconds. ``failover_ms`` is the sum of the four parts before it."""

    detection_ms: int
    election_ms: int
    fencing_ms: int
    promotion_ms: int
    failover_ms: int

    def __str__(self) -> str:
        return (
            f"failover {self.failover_ms} ms = detection {self.detection_ms} + election {self.election_ms} "
            f"+ fencing {self.fencing_ms} + promotion {self.promotion_ms}"
        )


def derive(values: dict[str, Any]) -> dict[str, int]:
    """The time-outs that ``values`` leaves out (absent or None), in ms. Always within the limits of the settings."""
    detection = values.get("detection_ms") or max(20, values["failover_budget_ms"] // 10)
    rules = {
        "detection_ms": detection,
        "heartbeat_ms": max(2, detection // 5),
        "election_ms": detection * 3 // 2,
        "peer_timeout_ms": max(40, 4 * detection),
        "syncvm_timeout_ms": 3 * values["failover_budget_ms"],
    }
    election = values.get("election_ms") or rules["election_ms"]
    left = max(0, values["failover_budget_ms"] - detection - election)
    rules["fence_timeout_ms"] = left // 3 if values["fence_policy"] != "off" else 0
    return {key: min(value, MS_MAX[key]) for key, value in rules.items() if values.get(key) is None}


def split(values: dict[str, Any]) -> Budget:
    """The parts of the budget, from complete ``values``. ``promotion_ms`` is the rest, so it may be too small or negative."""
    parts = (values["detection_ms"], values["election_ms"], values["fence_timeout_ms"] if values["fence_policy"] != "off" else 0)
    return Budget(*parts, values["failover_budget_ms"] - sum(parts), values["failover_budget_ms"])


def problems(values: dict[str, Any]) -> list[str]:
    """Sentences, each with a remedy: which of the complete ``values`` do not fit the budget or each other."""
    parts, out = split(values), []
    need = parts.failover_ms - parts.promotion_ms + PROMOTION_MS_MIN
    if parts.promotion_ms < PROMOTION_MS_MIN:
        out.append(
            f"failover_budget_ms: {parts.failover_ms} is too short: detection_ms {parts.detection_ms} + election_ms "
            f"{parts.election_ms} + fence_timeout_ms {parts.fencing_ms} + promotion at least {PROMOTION_MS_MIN} = "
            f"{need}; raise failover_budget_ms to {need}, or shorten one of its parts"
        )
    if values["fence_watchdog"] != "off" and 1000 * values["fence_watchdog_timeout_s"] < parts.failover_ms:
        out.append(
            f"fence_watchdog_timeout_s: {values['fence_watchdog_timeout_s']} s must not be shorter than "
            f"failover_budget_ms ({parts.failover_ms}), or a host is reset over a stall that is shorter than a failover; "
            "raise it"
        )
    if values["detection_ms"] < HEARTBEATS_MIN * values["heartbeat_ms"]:
        out.append(
            f"detection_ms: {values['detection_ms']} must be at least {HEARTBEATS_MIN} x heartbeat_ms "
            f"({values['heartbeat_ms']}); raise detection_ms or shorten heartbeat_ms"
        )
    for longer, shorter, why in (
        ("peer_timeout_ms", "detection_ms", "or a short silence of the secondary ends the protection"),
        ("syncvm_timeout_ms", "peer_timeout_ms", "or a syncvm is given up before its secondary counts as lost"),
        ("syncvm_timeout_ms", "syncvm_drain_ms_max", "or it is given up while it waits for idleness"),
        ("join_timeout_ms", "peer_timeout_ms", "or an initial sync is given up before its secondary counts as lost"),
    ):
        if values[longer] < values[shorter]:
            out.append(
                f"{longer}: {values[longer]} must not be shorter than {shorter} ({values[shorter]}), {why}; "
                f"raise {longer} or shorten {shorter}"
            )
    return out
