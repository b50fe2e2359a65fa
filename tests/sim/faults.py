# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes wrong, when: the table of faults, the phases they are injected in, and a plan for each seed.

Seed n aims at cell n of the table fault x phase, so that some thousand seeds meet every cell many times; after that, and
sometimes before, more faults come at random.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from plover.consensus.effects import CANDIDATE
from plover.core.leader import BOOTING, PROMOTING
from plover.syncvm.figures import Figures
from plover.syncvm.leader import LeaderSyncvm
from plover.syncvm.phases import DISKS, LeaderPhase

from .replica import ReplicaMember

if TYPE_CHECKING:
    from .world import World

ROLES = ("leader", "secondary", "witness")
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


# ---- the faults: each takes (world, rng, member name) ----------------------------------------------------
def power_loss(world: World, rng: random.Random, name: str) -> None:
    """Sometimes in the middle of a write of the durable state."""
    world.loop.after(rng.uniform(0.05, 0.9), None, world.power_on, name)
    if rng.random() < 0.4:
        world.hosts[name].disk.steps_to_power_loss = rng.randrange(8)
        world.loop.after(0.04, None, world.power_loss, name)  # it may not write at all
    else:
        world.power_loss(name)


def amnesia(world: World, rng: random.Random, name: str) -> None:
    """It comes back without its state file: a new disk, or a daemon whose folder somebody cleaned up."""
    if rng.random() < 0.6:
        world.loop.after(rng.uniform(0.05, 0.9), None, world.power_on, name)
        world.power_loss(name)
    else:
        world.kill_daemon(name)
    world.forget(name)


def forgotten_record(world: World, rng: random.Random, name: str) -> None:
    """The leader goes on without the secondary. The witness stored that, and forgets it. Then the leader hangs, and the
    secondary, which is stale, is back."""
    other = "secondary" if name == "primary" else "primary"
    _cut(world, rng, [p for o in _others(other) for p in ((other, o), (o, other))], rng.uniform(0.8, 1.0))
    world.loop.after(rng.uniform(0.55, 0.7), None, amnesia, world, rng, "witness")
    world.loop.after(0.75, None, world.freeze, name)
    world.loop.after(rng.uniform(1.6, 2.2), None, world.thaw, name)


def forgotten_vote(world: World, rng: random.Random, name: str) -> None:
    """The secondary is elected while the leader is cut off. The witness forgets that it voted for it, and now hears the old
    leader alone."""
    other = "secondary" if name == "primary" else "primary"
    _cut(world, rng, [(name, other), (other, name)], rng.uniform(1.4, 1.8))
    _cut(world, rng, [(name, "witness"), ("witness", name)], 0.4)
    world.loop.after(0.39, None, amnesia, world, rng, "witness")
    world.loop.after(0.39, None, _cut, world, rng, [(other, "witness"), ("witness", other)], rng.uniform(0.8, 1.1))


def kill_daemon(world: World, rng: random.Random, name: str) -> None:
    world.kill_daemon(name)


def kill_qemu(world: World, rng: random.Random, name: str) -> None:
    qemu, member = world.hosts[name].qemu, world.members[name]
    if qemu is not None and not qemu.dead:
        qemu.dead = True
        world.note(name, "QEMU dies")
        world.loop.after(0.001, member, member.vm_exited, qemu)


def _hold(world: World, rng: random.Random, process) -> None:
    if process is not None and not process.dead:
        process.hold()
        world.loop.after(_duration(rng), None, _go_on, process)


def _go_on(process) -> None:
    if not process.dead and process.holds:
        process.go_on()


def _duration(rng: random.Random) -> float:
    return rng.choice((0.02, 0.08, 0.15, 0.3, 0.6, 1.2)) * rng.uniform(0.8, 1.2)


def stop_daemon(world: World, rng: random.Random, name: str) -> None:
    _hold(world, rng, world.members[name])


def stop_mid_event(world: World, rng: random.Random, name: str) -> None:
    """SIGSTOP, between what the core decides and the wire."""
    member = world.members[name]
    if isinstance(member, ReplicaMember):
        member.stop_at_emit = lambda: _hold(world, rng, member)


def stop_qemu(world: World, rng: random.Random, name: str) -> None:
    _hold(world, rng, world.hosts[name].qemu)


def freeze_host(world: World, rng: random.Random, name: str) -> None:
    world.freeze(name)
    world.loop.after(_duration(rng), None, world.thaw, name)


def slow_host(world: World, rng: random.Random, name: str) -> None:
    """Runs a little, waits a little, for a while: an overloaded host."""
    for n in range(rng.randrange(4, 12)):
        at = n * 0.06
        world.loop.after(at, None, world.freeze, name)
        world.loop.after(at + rng.uniform(0.01, 0.055), None, world.thaw, name)


def clock_jump(world: World, rng: random.Random, name: str) -> None:
    """Forward only: the daemons read a monotonic clock, but a suspended host's jumps."""
    world.ghost.strict_voice = False
    world.hosts[name].clock_offset_s += rng.choice((0.05, 0.15, 1.0, 60.0))


def full_disk(world: World, rng: random.Random, name: str) -> None:
    disk = world.hosts[name].disk
    disk.full = True
    world.loop.after(_duration(rng), None, setattr, disk, "full", False)


def failed_image(world: World, rng: random.Random, name: str) -> None:
    """The disk takes no writes of this host's own VM. Beside a secondary, QEMU tells the VM that they are done."""
    host = world.hosts[name]
    host.image_fails = True
    world.loop.after(_duration(rng), None, setattr, host, "image_fails", False)


def failed_merge(world: World, rng: random.Random, name: str) -> None:
    """A failover to this host, whose disk then has no room for what its VM wrote before."""
    host = world.hosts[name]
    host.merge_fails = True
    kill_qemu(world, rng, "secondary" if name == "primary" else "primary")
    world.loop.after(2 * _duration(rng), None, setattr, host, "merge_fails", False)


def lost_writes(world: World, rng: random.Random, name: str) -> None:
    """The disk takes what is copied to it and loses it: the sync at the end of the copy says so, and only that one."""
    host = world.hosts[name]
    host.loses_writes = True
    world.loop.after(2 * _duration(rng), None, setattr, host, "loses_writes", False)


def failed_command(world: World, rng: random.Random, name: str) -> None:
    """QEMU refuses its next operation."""
    member = world.members[name]
    if isinstance(member, ReplicaMember):
        member.vm_work.fail_next = True


def die_between_commands(world: World, rng: random.Random, name: str) -> None:
    """The daemon dies when QEMU has done what it was asked, and before it learns of that."""
    member = world.members[name]
    if isinstance(member, ReplicaMember):
        member.vm_work.dies_after = rng.choice((0, 0, 0, 1, 2))


def full_socket(world: World, rng: random.Random, name: str) -> None:
    """The daemon reads late: QEMU's network socket is full, and more waits behind it, through stops too."""
    qemu = world.hosts[name].qemu
    if qemu is not None:
        qemu.read_late_s = rng.uniform(0.001, 0.006)
        world.loop.after(_duration(rng), None, setattr, qemu, "read_late_s", 0.0)


def forgetful_tracker(world: World, rng: random.Random, name: str) -> None:
    """From now on each fetch of dirty pages while the VM runs, in an initial sync, loses half of them."""
    qemu = world.hosts[name].qemu
    if qemu is not None:
        qemu.forgets = True


def _cut(world: World, rng: random.Random, pairs: list[tuple[str, str]], seconds: float) -> None:
    for src, dst in pairs:
        world.network.cut(src, dst)
        world.loop.after(seconds, None, world.network.heal, src, dst)


def _others(name: str) -> list[str]:
    return [m for m in ("primary", "secondary", "witness") if m != name]


def isolate(world: World, rng: random.Random, name: str) -> None:
    _cut(world, rng, [p for o in _others(name) for p in ((name, o), (o, name))], _duration(rng))


def all_links(world: World, rng: random.Random, name: str) -> None:
    """The switch between the hosts restarts."""
    members = (name, *_others(name))
    _cut(world, rng, [(a, b) for a in members for b in members if a != b], _duration(rng))


def one_link(world: World, rng: random.Random, name: str) -> None:
    other = rng.choice(_others(name))
    _cut(world, rng, [(name, other), (other, name)], _duration(rng))


def mute(world: World, rng: random.Random, name: str) -> None:
    """One way: nobody hears it, it hears all."""
    _cut(world, rng, [(name, o) for o in _others(name)], _duration(rng))


def deaf(world: World, rng: random.Random, name: str) -> None:
    _cut(world, rng, [(o, name) for o in _others(name)], _duration(rng))


def flapping(world: World, rng: random.Random, name: str) -> None:
    other = rng.choice(_others(name))
    for n in range(rng.randrange(3, 9)):
        world.loop.after(n * 0.12, None, _cut, world, rng, [(name, other), (other, name)], rng.uniform(0.01, 0.11))


def hung_behind_cut(world: World, rng: random.Random, name: str) -> None:
    """Hung for longer than the detection time, and cut off from the other replica for longer still."""
    other = "secondary" if name == "primary" else "primary"
    _cut(world, rng, [(name, other), (other, name)], rng.uniform(0.8, 1.4))
    world.freeze(name)
    world.loop.after(rng.uniform(0.15, 0.35), None, world.thaw, name)


def lost_candidacy(world: World, rng: random.Random, name: str) -> None:
    """The leader hangs; the other one stands for election and is cut off from the witness at that moment. So the old
    leader, awake again, is deposed by a candidate that cannot win, and is elected anew beside a secondary in sync."""
    other = "secondary" if name == "primary" else "primary"
    end = world.loop.now + 0.5
    world.freeze(name)

    def watch() -> None:
        member = world.members[other]
        if not member.dead and member.consensus.role == CANDIDATE:
            _cut(world, rng, [(other, "witness"), ("witness", other)], rng.uniform(0.2, 0.4))
        elif world.loop.now < end:
            return world.loop.after(0.0001, None, watch)
        world.loop.after(rng.uniform(0.0, 0.01), None, world.thaw, name)

    watch()


def break_link(world: World, rng: random.Random, name: str) -> None:
    """A connection is reset."""
    other = rng.choice(_others(name))
    world.network.drop(name, other, 0)
    if (name, other, 1) in world.network.connections and rng.random() < 0.7:
        world.network.drop(name, other, 1)


def lossy(world: World, rng: random.Random, name: str) -> None:
    """Messages lost, doubled, overtaken, on every control connection."""
    if world.one_sided:  # a ring begins when what was sent by message before has come: that needs what TCP gives
        return break_link(world, rng, name)
    world.network.lossy = rng.choice((0.05, 0.2, 0.5))
    world.loop.after(rng.uniform(0.1, 0.8), None, setattr, world.network, "lossy", 0.0)


def corrupt(world: World, rng: random.Random, name: str) -> None:
    world.network.corrupt = rng.randrange(1, 3)


def _ask(world: World, name: str, what: str, answer: Callable[[object], None], *arguments: object) -> None:
    member = world.members[name]
    if isinstance(member, ReplicaMember) and not member.dead and not member.holds:
        world.note(name, f"operator: {what}")
        member.call(what, answer, *arguments)


def switchover(world: World, rng: random.Random, name: str) -> None:
    _ask(world, name, "switchover", lambda error: None)


def force(world: World, rng: random.Random, name: str) -> None:
    """Alone behind a cut, and the operator has it lead; then the others are back."""
    _cut(world, rng, [p for o in _others(name) for p in ((name, o), (o, name))], rng.uniform(0.8, 1.8))
    world.loop.after(rng.uniform(0.6, 1.4), None, world.force, name)


def audit(world: World, rng: random.Random, name: str) -> None:
    """Of the disk too, if the VM has one. Nothing that it compares may differ."""

    def answer(result: Figures | str) -> None:
        if isinstance(result, Figures) and (result.untracked or result.mismatching or result.disk_blocks_mismatching):
            world.ghost.fail(f"{name}: the audit found that the hosts differ: {result}")

    _ask(world, name, "audit", answer, bool(world.hosts[name].config.disks))


ALL, REPLICAS, LEADER, ANY = ROLES, ROLES[:2], ROLES[:1], ROLES[:1]
FAULTS: dict[str, tuple[Callable, tuple[str, ...]]] = {
    "power-loss": (power_loss, ALL),
    "kill-daemon": (kill_daemon, ALL),
    "kill-qemu": (kill_qemu, REPLICAS),
    "stop-daemon": (stop_daemon, ALL),
    "stop-mid-event": (stop_mid_event, LEADER),
    "stop-qemu": (stop_qemu, REPLICAS),
    "freeze-host": (freeze_host, ALL),
    "slow-host": (slow_host, ALL),
    "clock-jump": (clock_jump, ALL),
    "amnesia": (amnesia, ALL),
    "forgotten-record": (forgotten_record, LEADER),
    "forgotten-vote": (forgotten_vote, LEADER),
    "full-disk": (full_disk, ALL),
    "failed-image": (failed_image, REPLICAS),
    "failed-merge": (failed_merge, REPLICAS),
    "lost-writes": (lost_writes, REPLICAS),
    "failed-command": (failed_command, REPLICAS),
    "isolate": (isolate, ALL),
    "cut-link": (one_link, ALL),
    "cut-all": (all_links, ANY),
    "mute": (mute, ALL),
    "deaf": (deaf, ALL),
    "flapping": (flapping, ALL),
    "hung-behind-cut": (hung_behind_cut, LEADER),
    "lost-candidacy": (lost_candidacy, LEADER),
    "break-link": (break_link, ALL),
    "lossy": (lossy, ANY),
    "corrupt": (corrupt, ANY),
    "switchover": (switchover, LEADER),
    "force": (force, REPLICAS),
    "audit": (audit, LEADER),
    "forgetful-tracker": (forgetful_tracker, LEADER),
    "die-between-commands": (die_between_commands, REPLICAS),
    "full-socket": (full_socket, REPLICAS),
}
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


def with_scan(seed: int) -> bool:
    """Are this seed's dirty pages found by hashing all? A seventh of the seeds, each time in other cells."""
    return seed % 7 == 6


def with_uneven_budgets(seed: int) -> bool:
    """Have the hosts of this seed different time-outs? Two rounds of the table in five, one with one-sided writes."""
    return seed // len(CELLS) % 5 in (2, 4)


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


def clear(world: World) -> None:
    """All faults end: power, links, disks, processes."""
    network = world.network
    network.lossy, network.corrupt = 0.0, 0
    for src, dst in list(network.cut_since):
        network.heal(src, dst)
    for name, host in world.hosts.items():
        host.disk.full, host.disk.steps_to_power_loss = False, None
        host.image_fails = host.merge_fails = host.loses_writes = False
        while host.frozen:
            world.thaw(name)
        for process in (world.members[name], host.qemu):
            while process is not None and not process.dead and process.holds:
                process.go_on()
        world.power_on(name)
        if isinstance(world.members[name], ReplicaMember):
            world.members[name].vm_work.fail_next, world.members[name].vm_work.dies_after = False, None
