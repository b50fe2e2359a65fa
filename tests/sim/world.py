# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything of one run: three hosts, their network, the bridge the clients are behind, the clients, the operator."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import lru_cache

from plover.config.settings import Config
from plover.core import follower, force
from plover.errors import DurableStateError

from lab.linearizable import Undecided, check

from . import faults, guest, speech
from .clients import Client
from .disk import PowerLoss
from .ghost import Ghost, Violation
from .host import RESTART_S, Host
from .loop import Loop
from .member import Member
from .network import Network
from .plan import with_agreed, with_disks, with_ends, with_one_sided, with_scan, with_uneven_budgets
from .replica import ReplicaMember
from .witness import WitnessMember

NAMES = ("primary", "secondary", "witness")
CLIENTS = 3
follower.RESTART_S = 0.1  # a second of doing nothing after each reset finds no bugs


def group(member: str) -> dict[str, object]:
    """The settings that every group needs."""
    members = {n: {"address": f"127.0.0.{i + 1}", "kind": "witness" if n == "witness" else "replica"} for i, n in enumerate(NAMES)}
    return {
        "name": "demo",
        "cluster_id": "6f9619ff-8b86-4d01-b42d-00cf4fc964ff",
        "member": member,
        "members": members,
        "preferred_leader": "primary",
        "guest_kernel": "/k",
        "guest_mac": "52:54:00:70:6c:01",
    }


@lru_cache(maxsize=256)
def settings(
    member: str, hold_ms: int, interval_ms: int, disks: bool = False, budget_ms: int = 1000, agreed: bool = False, ends: bool = False
) -> Config:
    return Config(
        {
            **group(member),
            "latency_ms_target": hold_ms,
            "syncvm_interval_ms_max": interval_ms,
            "output_release": "agreed" if agreed else "syncvm",
            "scrub_interval_s": 1,
            "disks": [{"path": "/images/vm"}] if disks else [],
            "failover_budget_ms": budget_ms,
            "syncvm_timeout_ms": max(600, 2 * budget_ms // 5),
            "join_timeout_ms": 1500,
            **({"on_crash": "restart", "on_poweroff": "restart"} if ends else {}),
        }
    )


def budgets(seed: int) -> dict[str, int]:
    """failover_budget_ms of each host: as in a rolling restart with another, where :func:`with_uneven_budgets` says so."""
    rng = random.Random(f"budgets {seed}")
    return {n: rng.choice((300, 1000, 3000)) if with_uneven_budgets(seed) else 1000 for n in NAMES}


class World:
    chance: type[random.Random] = random.Random  # of what two VMs do otherwise, with agreed output
    may_agree = True  # on output, if the seed wants it

    def __init__(self, seed: int, trace: list[str] | None = None) -> None:
        self.rng = random.Random(seed)
        self.trace = trace
        self.loop = Loop()
        self.ghost = Ghost(self)
        self.clients_end = False
        self.disks, self.one_sided, self.scans = with_disks(seed), with_one_sided(seed), with_scan(seed)
        self.agreed = self.may_agree and with_agreed(seed)
        self._boots = 0
        self._values = self._connections = 0
        self.mac_at: str | None = None
        hold_ms, interval_ms = self.rng.choice((5, 20, 20, 60)), self.rng.choice((50, 200, 1000))
        budgets_ms = budgets(seed)
        more = (self.agreed, with_ends(seed))
        self.hosts = {n: Host(self, n, settings(n, hold_ms, interval_ms, self.disks, budgets_ms[n], *more)) for n in NAMES}
        self.members: dict[str, Member] = {}
        self.network = Network(self.loop, random.Random(self.rng.getrandbits(64)), self.members, codec=seed % 8 == 0)
        self.network.on_vote = self.ghost.votes
        for name in NAMES:
            self.start_daemon(name)
        self.buttons = False  # the operator may press the reset button
        self.strays = 0  # times that memory changed behind the tracker's back
        self.torn_accepted: set[str] = set()  # where the operator has a torn image booted
        self.clients = [Client(self, n) for n in range(CLIENTS)]
        if with_ends(seed):
            faults.guest_ends(self, random.Random(f"ends {seed}"))

    def note(self, who: str, text: str) -> None:
        if self.trace is not None:
            self.trace.append(f"{self.loop.now:9.4f} {who:9} {text}")

    # ---- hooks: who watches a world derives from it ------------------------------------------------------
    def gets(self, member: Member, src: str, message: object, take: Callable[[], None]) -> None:
        """A message for ``member`` has arrived; ``take`` delivers it."""
        take()

    def does(self, member: ReplicaMember, action: object, carry_out: Callable[[object], None]) -> None:
        """Its core wants ``action``."""
        carry_out(action)

    # ---- daemons and hosts --------------------------------------------------------------------------
    def start_daemon(self, name: str) -> None:
        host = self.hosts[name]
        try:
            member = (WitnessMember if name == "witness" else ReplicaMember)(host)
        except DurableStateError as error:
            raise Violation(f"{name} cannot start: {error}") from error
        except PowerLoss:
            return self.power_loss(name)
        self.members[name] = member
        self.ghost.started(name, None if member.consensus.amnesia else member.store.load())
        member.start()
        self.note(name, "daemon starts")

    def kill_daemon(self, name: str, restart: bool = True) -> None:
        """kill -9, or a loud end: QEMU runs on in its own unit, systemd starts the daemon again."""
        member = self.members[name]
        if member.dead:
            return
        self.note(name, "daemon dies")
        member.dead = True
        if isinstance(member, ReplicaMember) and member.vm is not None:
            member.vm.disconnect()
        for other in NAMES:
            for channel in (0, 1):
                if (name, other, channel) in self.network.connections:
                    self.network.drop(name, other, channel)
        if restart:
            self.loop.after(RESTART_S, None, self.restart_daemon, name)

    def restart_daemon(self, name: str) -> None:
        if self.members[name].dead and self.hosts[name].on:
            if self.hosts[name].disk.full:  # it cannot even say that it is there: systemd tries again
                self.loop.after(RESTART_S, None, self.restart_daemon, name)
                return
            self.start_daemon(name)

    def power_loss(self, name: str) -> None:
        host, member = self.hosts[name], self.members[name]
        if not host.on:
            return
        self.note(name, "HOST LOSES POWER")
        host.on = False
        host.frozen = 0
        member.dead = True
        if host.qemu is not None:
            host.qemu.dead = True
        host.lose_unsynced()
        host.qemu = host.holder = None
        host.disk.steps_to_power_loss = None
        host.disk.power_loss()
        self.network.host_lost(name)

    def power_on(self, name: str) -> None:
        host = self.hosts[name]
        if not host.on:
            self.note(name, "power is back")
            host.on = True
            self.restart_daemon(name)
            self.network.host_back(name)

    def forget(self, name: str, backup: dict[str, str] | None = None) -> bool:
        """A dead daemon's state folder is empty from now on, or as in ``backup``; not if another member has forgotten already."""
        if any(self.forgetful(other) for other in NAMES if other != name):
            return False
        self.note(name, "ITS STATE FOLDER IS EMPTIED" if backup is None else "AN OLD BACKUP OF ITS STATE FOLDER IS PUT BACK")
        self.hosts[name].disk.put_back(backup or {})
        self.ghost.forgets(name)
        return True

    def forgetful(self, name: str) -> bool:
        member = self.members[name]
        return self.hosts[name].disk.forgets or (not member.dead and member.consensus.amnesia is not None)

    def freeze(self, name: str) -> None:
        host = self.hosts[name]
        host.frozen += 1
        for process in (self.members[name], host.qemu):
            if process is not None and not process.dead:
                process.hold()

    def thaw(self, name: str) -> None:
        host = self.hosts[name]
        if host.frozen:  # else it lost power while frozen
            host.frozen -= 1
            for process in (self.members[name], host.qemu):
                if process is not None and not process.dead and process.holds:
                    process.go_on()

    def force(self, name: str) -> None:
        """The operator has ``name`` lead, if the daemon lets him. From here on he has paid: history may fork."""
        member = self.members[name]
        if member.dead or member.holds or force.refusal(member.core.at(member.host.clock())):
            return
        self.note(name, "operator: failover --force")
        self.check_history()  # up to here nothing may be lost
        self.ghost.forced = True
        member.call(force.force)

    def new_boot(self) -> int:
        """A number for a daemon; no other daemon has it."""
        self._boots += 1
        return self._boots

    # ---- the clients' network -------------------------------------------------------------------------
    def new_value(self) -> int:
        self._values += 1
        return self._values

    def new_connection(self) -> int | None:
        if self._connections >= guest.CONNECTIONS:
            return None
        self._connections += 1
        return self._connections - 1

    def to_vm(self, frame: bytes) -> None:
        """From a client to the host where the bridge last saw the VM's MAC."""
        if self.mac_at is not None:
            member = self.members[self.mac_at]
            self.loop.after(0.0002, member, member.client_frame, guest.wrap(guest.MAC + frame))

    def announced(self, member: ReplicaMember) -> None:
        self.ghost.speaks(member)
        self.mac_at = member.name

    def emit(self, member: ReplicaMember, frames: list[bytes]) -> None:
        """Out of a host's TAP. Without its TAP in the bridge nothing passes."""
        if not frames:
            return
        self.ghost.emitted(member, frames)
        if member.tap_up:
            self.mac_at = member.name
            for frame in frames:
                self.loop.after(0.0002, None, self._to_client, frame)

    def _to_client(self, frame: bytes) -> None:
        heard = speech.hear(frame)
        for client in self.clients:
            if heard.answers:
                client.answer(heard)
            if heard.ends:
                client.closed(heard.connection)

    # ---- what an onlooker sees ------------------------------------------------------------------------
    def leader(self) -> ReplicaMember | None:
        """The member that leads the highest view, if one does."""
        newest = None
        for member in self.members.values():
            leads = not member.dead and member.core and member.core.leading
            if leads and (newest is None or member.consensus.view > newest.consensus.view):
                newest = member
        return newest

    def protected(self) -> bool:
        member = self.leader()
        if member is None or member.holds:
            return False
        leading = member.core.leading
        return leading.serving and leading.protected and not leading.switchover.under_way and member.tap_up

    def settled(self, answered: list[int]) -> bool:
        """Protected, and every client got an answer since ``answered``."""
        return self.protected() and all(c.answered > n or c.connection is None for c, n in zip(self.clients, answered))

    def quiet_page_equal(self) -> bool:
        """The page that the VM never writes is the same on both hosts, so the scrub has mended what changed it."""
        return self.protected() and len({self.hosts[name].qemu.ram[guest.QUIET] for name in NAMES[:2]}) == 1

    def run_until(self, condition, limit_s: float) -> bool:
        end, loop, count = self.loop.now + limit_s, self.loop, 0
        while loop.now < end:
            loop.step()
            count += 1
            if not count % 8 and condition():
                return True
        return condition()

    def check_history(self) -> None:
        if self.ghost.forced:
            return
        history = [op for c in self.clients for op in c.history] + [c.pending for c in self.clients if c.pending]
        try:
            why = check(history, {f"k{n}": 0 for n in range(guest.KEYS)}, 300_000)
        except Undecided as error:
            why = str(error)
        if why:
            raise Violation(why)
