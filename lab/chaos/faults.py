# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of faults. Each is one function: inject, hold, heal; a role becomes a host at the moment of injection."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import NamedTuple

from ..hosts import HOSTS, Host
from . import disk, members, wires

HOLD_S = 4.0
QEMU_HANG_S = 12.0  # longer than any time-out that Plover has for its QEMU
CUT_S = 3.0
FLAPS, FLAP_DOWN_S, FLAP_UP_S = 8, 0.15, 0.25
PROTECTED_S_MAX = 90.0
LEADER_S_MAX = 20.0
REBOOT = signal.SIGRTMIN + 5  # systemd: as `systemctl reboot`


class NotInTime(Exception):
    """What should have happened by itself did not, within its bound."""


class Scene:
    """One round's stage: who plays what, and when what was done to them."""

    def __init__(self, roles: dict[str, str]) -> None:
        self.roles = roles
        self.injected_at = self.injected_real = 0.0  # CLOCK_MONOTONIC, as the clients' times; CLOCK_REALTIME
        self.events: list[tuple[float, str]] = []
        self.came_back: list[tuple[str, float]] = []  # (host, CLOCK_REALTIME): hung or cut off before, not restarted
        self.notes: list[str] = []

    def mark(self, what: str) -> None:
        now = time.monotonic()
        if not self.events:
            self.injected_at, self.injected_real = now, time.time()
        self.events.append((round(now - self.injected_at, 3), what))

    def returns(self, host: str) -> None:
        self.came_back.append((host, time.time()))

    def wait(self, condition: Callable[[dict], bool], seconds: float, what: str) -> dict:
        seen = members.wait(condition, seconds)
        if seen is None:
            raise NotInTime(f"{what} within {seconds:.0f} s")
        return seen


class Fault(NamedTuple):
    play: Callable[[Scene, str], None]  # (scene, host)
    roles: tuple[str, ...]


def none(scene: Scene, host: str) -> None:
    """How long clients wait without a fault: compare the other rows with this one."""
    scene.mark("nothing happens")
    time.sleep(HOLD_S)


# ---- hosts --------------------------------------------------------------------------------------------------------
def power_loss(scene: Scene, host: str) -> None:
    scene.mark(f"power loss of {host}")
    Host(host).power_loss()
    time.sleep(HOLD_S)
    power_on(scene, host)


def power_on(scene: Scene, host: str) -> None:
    scene.mark(f"power on of {host}")
    Host(host).power_on()


def reboot(scene: Scene, host: str) -> None:
    before = members.first_process(host)
    scene.mark(f"reboot of {host}")
    os.kill(before, REBOOT)
    scene.wait(lambda _: members.first_process(host) not in (0, before), 60.0, f"{host} did not reboot")


def freeze(scene: Scene, host: str) -> None:
    scene.mark(f"{host} freezes")
    Host(host).freeze("FROZEN")
    time.sleep(HOLD_S)
    thaw(scene, host)


def thaw(scene: Scene, host: str) -> None:
    scene.mark(f"{host} thaws")
    scene.returns(host)
    Host(host).freeze("THAWED")


# ---- processes ----------------------------------------------------------------------------------------------------
def kill_daemon(scene: Scene, host: str) -> None:
    scene.mark(f"kill -9 of {host}'s daemon")
    members.send_signal(host, members.DAEMON[host], signal.SIGKILL)


def stop_daemon(scene: Scene, host: str) -> None:
    _stop(scene, host, members.DAEMON[host], HOLD_S)


def kill_qemu(scene: Scene, host: str) -> None:
    scene.mark(f"kill -9 of {host}'s QEMU")
    members.send_signal(host, "plover-qemu", signal.SIGKILL)


def stop_qemu(scene: Scene, host: str) -> None:
    _stop(scene, host, "plover-qemu", HOLD_S)


def hang_qemu(scene: Scene, host: str) -> None:
    _stop(scene, host, "plover-qemu", QEMU_HANG_S)


def _stop(scene: Scene, host: str, unit: str, seconds: float) -> None:
    scene.mark(f"SIGSTOP of {host}'s {unit}")
    members.send_signal(host, unit, signal.SIGSTOP)
    time.sleep(seconds)
    scene.mark(f"SIGCONT of {host}'s {unit}")
    scene.returns(host)
    members.resume(host)


# ---- wires --------------------------------------------------------------------------------------------------------
def cut(scene: Scene, host: str) -> None:
    """The wire between ``host`` and the one after it: leader-secondary, secondary-witness, witness-leader."""
    order = [scene.roles[role] for role in ("leader", "secondary", "witness")]
    other = order[(order.index(host) + 1) % 3]
    _drop(scene, {(host, other), (other, host)}, f"the wire between {host} and {other} is cut")


def deaf(scene: Scene, host: str) -> None:
    _drop(scene, {(other, host) for other in HOSTS if other != host}, f"{host} hears nobody")


def mute(scene: Scene, host: str) -> None:
    _drop(scene, {(host, other) for other in HOSTS if other != host}, f"nobody hears {host}")


def _drop(scene: Scene, pairs: set[tuple[str, str]], what: str) -> None:
    scene.mark(what)
    wires.drop(pairs)
    time.sleep(CUT_S)
    for host in sorted({host for pair in pairs for host in pair}):
        scene.returns(host)
    scene.mark("the wires are whole")
    wires.heal()


def isolate(scene: Scene, host: str) -> None:
    scene.mark(f"{host} is unplugged from the replication network")
    Host(host).links("down", ("ft",))
    time.sleep(CUT_S)
    scene.returns(host)
    scene.mark(f"{host} is plugged in")
    Host(host).links("up", ("ft",))


def flap(scene: Scene, host: str) -> None:
    scene.mark(f"{host}'s link flaps {FLAPS} times")
    for _ in range(FLAPS):
        Host(host).links("down", ("ft",))
        time.sleep(FLAP_DOWN_S)
        Host(host).links("up", ("ft",))
        time.sleep(FLAP_UP_S)


# ---- disks --------------------------------------------------------------------------------------------------------
def disk_full(scene: Scene, host: str) -> None:
    """A full disk is noticed when a view or a record must be written: a switchover asks all three for that."""
    scene.mark(f"{host}'s state disk is full")
    disk.fill(Host(host))
    ask_switchover(scene)
    time.sleep(HOLD_S)
    scene.mark(f"{host}'s state disk has space")
    disk.free(Host(host))


# ---- planned, and in a row ------------------------------------------------------------------------------------------
def ask_switchover(scene: Scene) -> None:
    reply = members.ask(scene.roles["leader"], "switchover", members.OPERATION_TIMEOUT_S)
    if not reply.get("ok"):
        scene.notes.append(f"switchover: {reply.get('error', 'no answer')}")


def switchover(scene: Scene, host: str) -> None:
    scene.mark(f"switchover asked of {host}")
    ask_switchover(scene)


def two_in_a_row(scene: Scene, host: str) -> None:
    """Both replicas, one after the other: the second as soon as the group says it is protected."""
    power_loss(scene, host)
    seen = scene.wait(members.protected, PROTECTED_S_MAX, "not protected between two faults")
    power_loss(scene, members.roles(seen)["leader"])


def two_at_once(scene: Scene, host: str) -> None:
    """A second fault while unprotected: stopping is right, and the service must be back when the hosts are.

    The second fault leaves the only copy of the VM alive: the lone leader is cut off, or the other two hosts are off.
    """
    leader, secondary, witness = (scene.roles[role] for role in ("leader", "secondary", "witness"))
    if host == leader:
        scene.mark(f"power loss of {host}")
        Host(host).power_loss()
        scene.wait(
            lambda seen: seen[secondary].get("role") == "leader" and seen[secondary]["service"] == "degraded",
            LEADER_S_MAX,
            f"{secondary} did not take over",
        )
        freeze(scene, secondary)
        power_on(scene, host)
        return
    order = (secondary, witness) if host == secondary else (witness, secondary)
    for off in order:
        scene.mark(f"power loss of {off}")
        Host(off).power_loss()
        time.sleep(1.0)
    time.sleep(CUT_S)
    for off in order:
        power_on(scene, off)


ALL, REPLICAS, LEADER = ("leader", "secondary", "witness"), ("leader", "secondary"), ("leader",)
FAULTS = {
    "none": Fault(none, LEADER),
    "power-loss": Fault(power_loss, ALL),
    "reboot": Fault(reboot, ALL),
    "freeze": Fault(freeze, ALL),
    "kill-daemon": Fault(kill_daemon, ALL),
    "stop-daemon": Fault(stop_daemon, ALL),
    "kill-qemu": Fault(kill_qemu, REPLICAS),
    "stop-qemu": Fault(stop_qemu, REPLICAS),
    "hang-qemu": Fault(hang_qemu, REPLICAS),
    "cut": Fault(cut, ALL),
    "deaf": Fault(deaf, ALL),
    "mute": Fault(mute, ALL),
    "isolate": Fault(isolate, ALL),
    "flap": Fault(flap, ALL),
    "disk-full": Fault(disk_full, ALL),
    "switchover": Fault(switchover, LEADER),
    "two-in-a-row": Fault(two_in_a_row, LEADER),
    "two-at-once": Fault(two_at_once, ALL),
}


def heal_all() -> None:
    """Whatever a fault did: undone, on all hosts."""
    wires.heal()
    for name in HOSTS:
        host = Host(name)
        host.freeze("THAWED")
        members.resume(name)
        if os.path.ismount(host.state_disk):
            disk.free(host)
        host.power_on()
