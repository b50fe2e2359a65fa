# SPDX-License-Identifier: GPL-3.0-or-later
"""When faults happen: the phases they are injected in, and a plan for each seed.

Seed n aims at cell n of the table fault x phase, so that some thousand seeds meet every cell many times. More faults come at
random, most of them after that one.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from plover.core.leader import BOOTING, PROMOTING
from plover.syncvm.leader import LeaderSyncvm
from plover.syncvm.phases import DISKS, LeaderPhase

from .faults import FAULTS

if TYPE_CHECKING:
    from .world import World

SYNCVM = ("ordered", "drain", "stop", "exchange", "hash", "compare", "stage", "pack", "wait-staged", "load")
FILL = ("open", "copy", "live", "drain", "stop", "attach", "capture", "final", "check", "loading", "recording")
PHASES = (
    "electing",
    "booting",
    "promoting",
    "alone",
    "protected",
    "handover",
    "audit",
    "audit-disks",
    *(f"syncvm:{p}" for p in SYNCVM),
    *(f"fill:{p}" for p in FILL),
)
SHORTEST = ("syncvm:drain", "fill:drain")  # gone before any wait is over
ARM_LIMIT_S = 1.5  # a phase that does not come in this time is not waited for


def phase_of(world: World) -> str:
    """What the group is doing now, as its leader sees it."""
    member = world.leader()
    if member is None:
        return "electing"
    leader = member.core.leading
    if leader.vm in (BOOTING, PROMOTING):
        return leader.vm
    if leader.switchover.under_way:
        return "handover"
    if leader.syncvm:
        return _phase_of_syncvm(leader.syncvm)
    if leader.fill:
        return f"fill:{leader.fill.phase}"
    return "protected" if leader.protected else "alone"


def _phase_of_syncvm(syncvm: LeaderSyncvm) -> str:
    if syncvm.audit == DISKS and syncvm.phase in (LeaderPhase.LOAD, LeaderPhase.DONE):
        return "audit-disks"
    return "audit" if syncvm.phase == LeaderPhase.WAIT_AUDIT else f"syncvm:{syncvm.phase}"


def member_of(world: World, role: str) -> str:
    if role == "witness":
        return "witness"
    leader = world.leader()
    name = leader.name if leader else "primary"
    return name if role == "leader" else {"primary": "secondary", "secondary": "primary"}[name]


ROWS = [(fault, role) for fault, (_, roles) in FAULTS.items() for role in roles]
CELLS = [(fault, role, phase) for phase in PHASES for fault, role in ROWS]
# What must happen first, so that a phase comes at all.
FIRST = {
    "promoting": ("power-loss", "leader"),
    "handover": ("switchover", "leader"),
    "audit": ("audit", "leader"),
    "audit-disks": ("audit", "leader"),
    "alone": ("kill-qemu", "secondary"),
    "electing": ("power-loss", "leader"),
}
AT_START = ("booting",) + tuple(p for p in PHASES if p.startswith("fill:"))


def with_disks(seed: int) -> bool:
    """Has the VM of this seed a disk? A third, and all that aim at a phase that only those have."""
    return seed % 3 == 2 or CELLS[seed % len(CELLS)][2] in ("fill:copy", "fill:attach", "audit-disks")


def with_one_sided(seed: int) -> bool:
    """Does the leader of this seed write into the others' memory? A third of the seeds, each fault in each phase."""
    return seed // len(CELLS) % 3 == 1


def with_agreed(seed: int) -> bool:
    """In every fifth group, output that both VMs have sent leaves without a syncvm; the VMs do not always say the same."""
    return seed % 5 == 1


def with_scan(seed: int) -> bool:
    """Are this seed's dirty pages found by hashing all? A seventh of the seeds, each time in other cells."""
    return seed % 7 == 6


def with_uneven_budgets(seed: int) -> bool:
    """Have the hosts of this seed different time-outs? Two rounds of the table in five, one with one-sided writes."""
    return seed // len(CELLS) % 5 in (2, 4)


def with_ends(seed: int) -> bool:
    """Does the guest of this seed panic or power itself off now and then? It boots again then. Not of the first seeds, on which tests
    look at what VMs do that nobody disturbs."""
    return seed > 18 and seed % 19 == 8


class Plan:
    """The faults of one seed, injected by :meth:`step` as their phases come."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.rng = rng = random.Random(f"faults {seed}")
        fault, role, phase = CELLS[seed % len(CELLS)]
        self.injected: list[tuple[str, str, str]] = []
        self._steps: list[tuple[str, str, str | None, float]] = []  # fault, role, phase or None, seconds to wait
        at_start = phase in AT_START and (rng.random() < 0.5 or phase == "booting")
        if not at_start:
            self._steps.append(("", "", "protected", rng.uniform(0.0, 0.1)))
            if phase.startswith("fill:"):
                self._steps.append((*rng.choice((("kill-qemu", "secondary"), ("power-loss", "secondary"))), None, 0.0))
            if phase in FIRST:
                self._steps.append((*FIRST[phase], None, 0.0))
        self._steps.append((fault, role, phase, 0.0 if phase in SHORTEST else rng.choice((0.0, 0.0, 0.0003, 0.001))))
        for _ in range(rng.choice((0, 0, 1, 1, 2, 3))):
            wait = rng.choice((0.0, 0.02, 0.1, 0.3, 0.6)) * rng.random()
            self._steps.append((*rng.choice(ROWS), rng.choice((None, None, rng.choice(PHASES))), wait))
        self._since = 0.0
        self._armed_at: float | None = None

    @property
    def done(self) -> bool:
        return not self._steps

    def step(self) -> None:
        """Called after every event."""
        fault, role, phase, wait = self._steps[0]
        now = self.world.loop.now
        if self._armed_at is None:
            if phase is not None and phase_of(self.world) != phase:
                if now - self._since > ARM_LIMIT_S:
                    self._next(now)
                return
            self._armed_at = now + wait
        if now >= self._armed_at:
            self._next(now)
            if fault:
                self.inject(fault, role)

    def _next(self, now: float) -> None:
        self._steps.pop(0)
        self._since, self._armed_at = now, None

    def inject(self, fault: str, role: str) -> None:
        name, phase = member_of(self.world, role), phase_of(self.world)
        self.injected.append((fault, role, phase))
        self.world.note("FAULT", f"{fault} {role} ({name}) in {phase}")
        FAULTS[fault][0](self.world, self.rng, name)
