# SPDX-License-Identifier: GPL-3.0-or-later
"""The faults: each takes (world, rng, member name). When they happen is in plan.py."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from plover.consensus.effects import CANDIDATE
from plover.syncvm.figures import Figures

from . import guest
from .lies import lying_witness
from .replica import ReplicaMember

if TYPE_CHECKING:
    from .world import World

ROLES = ("leader", "secondary", "witness")


def power_loss(world: World, rng: random.Random, name: str) -> None:
    """Sometimes in the middle of a write of the durable state."""
    world.loop.after(rng.uniform(0.05, 0.9), None, world.power_on, name)
    if rng.random() < 0.4:
        world.hosts[name].disk.steps_to_power_loss = rng.randrange(8)
        world.loop.after(0.04, None, world.power_loss, name)  # it may not write at all
    else:
        world.power_loss(name)


def amnesia(world: World, rng: random.Random, name: str, backup: dict[str, str] | None = None) -> None:
    """It comes back without its state file: a new disk, or a daemon whose folder somebody cleaned up. Or with that of an
    old ``backup``."""
    if rng.random() < 0.6:
        world.loop.after(rng.uniform(0.05, 0.9), None, world.power_on, name)
        world.power_loss(name)
    else:
        world.kill_daemon(name)
    world.forget(name, backup)


def put_back(world: World, rng: random.Random, name: str) -> None:
    """Its state folder is again as it was some time ago."""
    world.loop.after(rng.uniform(0.1, 1.2), None, amnesia, world, rng, name, world.hosts[name].disk.backup())


def forgotten_record(world: World, rng: random.Random, name: str) -> None:
    """The leader goes on without the secondary. The witness stored that, and forgets it. Then the leader hangs, and the
    secondary, which is stale, is back."""
    _record_lost(world, rng, name, None)


def record_of_before(world: World, rng: random.Random, name: str) -> None:
    """As ``forgotten_record``, but the witness's state folder comes back from a backup."""
    _record_lost(world, rng, name, world.hosts["witness"].disk.backup())


def _record_lost(world: World, rng: random.Random, name: str, backup: dict[str, str] | None) -> None:
    other = "secondary" if name == "primary" else "primary"
    _cut(world, rng, [p for o in _others(other) for p in ((other, o), (o, other))], rng.uniform(0.8, 1.0))
    world.loop.after(rng.uniform(0.55, 0.7), None, amnesia, world, rng, "witness", backup)
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


def stray_write(world: World, rng: random.Random, name: str) -> None:
    """Memory changes behind the tracker's back: a write that it missed, or a bit that flipped."""
    qemu = world.hosts[name].qemu
    if qemu is not None:
        world.strays += 1
        qemu.ram[guest.QUIET] = rng.getrandbits(60)


def guest_ends(world: World, rng: random.Random) -> None:
    """Guests panic or power themselves off: mostly the leader's, whose host may lose power then, or the secondary's alone."""
    for n in range(rng.randint(2, 4)):  # a guest that does so more often is left alone (core/restarts.py)
        name = rng.choice(("primary", "primary", "primary", "secondary"))
        dies_after_s = rng.uniform(0.0, 0.03) if n == 0 and rng.random() < 0.5 else 0.0
        world.loop.after(rng.uniform(0.1, 2.0), None, _guest_ends, world, name, rng.random() < 0.7, dies_after_s)


def _guest_ends(world: World, name: str, panics: bool, dies_after_s: float) -> None:
    qemu, member = world.hosts[name].qemu, world.members[name]
    if qemu is None or qemu.dead or qemu.holds or not qemu.running or qemu.ended:
        return
    world.note(name, "its guest panics" if panics else "its guest powers itself off")
    event = qemu.ends(panics)
    if dies_after_s:
        world.loop.after(dies_after_s, None, power_loss, world, world.chance(f"power {name}"), name)
    if isinstance(member, ReplicaMember) and not member.dead:
        world.loop.after(0.0, member, member.guest_says, qemu, event)


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
        if not isinstance(result, Figures):
            return
        strays = min(1, world.strays)  # all on one page; during the audit, it is seen at its end
        if result.untracked > strays or result.mismatching > strays or result.disk_blocks_mismatching:
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
    "put-back": (put_back, ALL),
    "record-of-before": (record_of_before, LEADER),
    "lying-witness": (lying_witness, ANY),
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
    "stray-write": (stray_write, REPLICAS),
    "die-between-commands": (die_between_commands, REPLICAS),
    "full-socket": (full_socket, REPLICAS),
}


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
