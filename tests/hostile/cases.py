# SPDX-License-Identifier: GPL-3.0-or-later
"""Every point at which a QEMU of the group can go wrong, with every way to do so there. Data only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from misbehaviour import Rule

LEADER, SECONDARY = "leader", "secondary"
# What makes the daemons come by the point.
TRAFFIC, FILL, SWITCH = "traffic", "fill", "switchover"

QMP = (
    "error",
    "did error",
    "late",
    "hang",
    "freeze",
    "half",
    "half then close",
    "close",
    "nonsense",
    "a list",
    "an object",
    "wrong id",
    "die",
    "did die",
    "endless",
    "events",
    "flood",
)
# A VM that stands still, or was never started, sends nothing new; one that floods the wire for ever, and is the only copy,
# cannot be protected.
NO_FLOOD = tuple(how for how in QMP if how != "flood")
LOOP = ("late", "hang", "freeze", "half", "close", "wrong", "twice", "die", "did die", "endless")
NET = ("half", "half then die", "empty", "huge", "close", "endless", "die", "freeze")
STATE = ("none", "empty", "half", "huge")
STREAM = ("failed", "hang", "endless", "half", "half then die", "nonsense", "close", "freeze", "never ends")

POINTS: tuple[tuple[str, str, str, tuple[str, ...]], ...] = (
    (LEADER, "qmp:stop", TRAFFIC, QMP),
    (LEADER, "qmp:query-status", TRAFFIC, QMP),
    (LEADER, "qmp:xen-save-devices-state", TRAFFIC, NO_FLOOD),
    (LEADER, "qmp:cont", TRAFFIC, QMP),
    (LEADER, "state", TRAFFIC, STATE),
    (LEADER, "net", TRAFFIC, NET),
    (LEADER, "qmp:migrate-set-capabilities", FILL, NO_FLOOD),
    (LEADER, "qmp:migrate", FILL, NO_FLOOD),
    (LEADER, "qmp:query-migrate", FILL, NO_FLOOD),
    (LEADER, "capture", FILL, STREAM),
    (SECONDARY, "qmp:greeting", FILL, ("half", "close", "nonsense", "endless", "hang", "die")),
    (SECONDARY, "qmp:query-version", FILL, NO_FLOOD),
    (SECONDARY, "qmp:qom-get", FILL, NO_FLOOD),
    (SECONDARY, "qmp:migrate-set-capabilities", FILL, NO_FLOOD),
    (SECONDARY, "qmp:migrate-set-parameters", FILL, NO_FLOOD),
    (SECONDARY, "qmp:migrate-incoming", FILL, NO_FLOOD),
    (SECONDARY, "colo:READY", FILL, LOOP),
    (SECONDARY, "colo:REPLY", TRAFFIC, LOOP),
    (SECONDARY, "qmp:query-status", TRAFFIC, QMP),
    (SECONDARY, "qmp:system_reset", TRAFFIC, NO_FLOOD),
    (SECONDARY, "colo:RECEIVED", TRAFFIC, LOOP),
    (SECONDARY, "colo:LOADED", TRAFFIC, LOOP),
    (SECONDARY, "net", TRAFFIC, NET),
    (SECONDARY, "qmp:query-colo-status", SWITCH, NO_FLOOD),
    (SECONDARY, "qmp:x-colo-lost-heartbeat", SWITCH, NO_FLOOD),
    (SECONDARY, "qmp:announce-self", SWITCH, NO_FLOOD),
)


class Case(NamedTuple):
    role: str
    trigger: str
    rule: Rule

    @property
    def only_copy(self) -> bool:
        """The QEMU that fails has the only copy of the VM."""
        return self.trigger == SWITCH or (self.role, self.trigger) == (LEADER, FILL)

    def __str__(self) -> str:
        return f"{self.role}, {self.rule.point}: {self.rule.how}, {'once' if self.rule.once else 'always'}"


# Failing so again and again is another case than failing so once.
LASTING = {"error", "hang", "freeze", "half", "close", "die", "endless", "flood", "wrong", "none", "failed"}
CASES = tuple(
    Case(role, trigger, Rule(point, how, once))
    for role, point, trigger, ways in POINTS
    for how in ways
    for once in ((True, False) if how in LASTING else (True,))
)


def _sample() -> Iterator[Case]:
    for n, (role, point, _trigger, ways) in enumerate(POINTS):
        yield next(case for case in CASES if (case.role, case.rule.point, case.rule.how) == (role, point, ways[n % len(ways)]))


SAMPLE = tuple(_sample())  # one of each point, each in another way than the points before it: what a quick run takes
