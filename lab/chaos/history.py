# SPDX-License-Identifier: GPL-3.0-or-later
"""What the clients of one round saw: operations on a few registers, a ledger of keys written once, times. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from .. import linearizable
from ..linearizable import UNKNOWN, Op


class History(NamedTuple):
    """``acks``: when operations were acknowledged, in seconds on CLOCK_MONOTONIC, by clients that keep their connection;
    ``fresh_acks``: the same of those that open one for each operation. ``ledger_lost``: keys acknowledged and not there.
    ``wait_ms_max``: the longest that one client waited for one answer."""

    ops: list[Op]
    acks: list[float]
    fresh_acks: list[float]
    acked: int = 0
    unknown: int = 0
    broken: int = 0
    ledger_lost: list[str] = []
    wait_ms_max: int = 0


def dump(history: History, path: Path) -> None:
    ops = [[*op[:4], None if op.unknown else op.end, *op[5:]] for op in history.ops]
    path.write_text(json.dumps({**history._asdict(), "ops": ops}))


def load(path: Path) -> History:
    raw = json.loads(path.read_text())
    ops = [Op(*op[:4], UNKNOWN if op[4] is None else op[4], *op[5:]) for op in raw.pop("ops")]
    return History(ops=ops, **raw)


def gap_ms(times: Iterable[float], begin: float, end: float) -> int:
    """The longest time without an acknowledgement that touches [begin, end]; silence up to ``end`` counts as well."""
    times = sorted(times)
    before = max((t for t in times if t <= begin), default=begin)
    after = min((t for t in times if t >= end), default=end)
    points = [before, *(t for t in times if begin < t < end), after]
    return round(1000 * max((b - a for a, b in zip(points, points[1:])), default=0.0))


def losses(history: History) -> list[str]:
    """Every sign that something acknowledged is gone, as sentences; empty if there is none."""
    out = [f"acknowledged and not there: {key}" for key in history.ledger_lost]
    try:
        why = linearizable.check(history.ops)
    except linearizable.Undecided as error:
        why = f"not proven: {error}"
    return out + [why] if why else out
