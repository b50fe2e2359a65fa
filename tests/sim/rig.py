# SPDX-License-Identifier: GPL-3.0-or-later
"""A group for unit tests: a world without chance and without faults of its own, and a hand on each of its members.

A test drives it message by message: it writes to the VM, loses hosts, holds back a message or an action, lets QEMU tell
something else, and calls a member's core as the shell does. The world's onlooker judges every step, as in every other run.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

from plover.config.settings import Config
from plover.consensus.durable import Durable
from plover.core import force, router
from plover.ports import effects
from plover.protocol import pages, wire

from . import guest, speech
from .ghost import Violation
from .member import Member
from .replica import ReplicaMember
from .watch import DOES, GOT, Seen, Watched
from .world import NAMES, group

AGAIN_S = 0.06  # a client sends again, as TCP does
WRITE_PAGE = guest.NOISE0  # pages from here on are no part of what the VM answers


class Seat:
    """One member and its host, whichever daemon and QEMU are there now."""

    def __init__(self, rig: Rig, name: str) -> None:
        self.rig, self.name = rig, name
        self._since = len(rig.seen)
        self.done: list[str] = []  # names of the actions requested by its core
        self.released: list[int] = []  # values whose answers left the host
        self.fenced: list[str] = []  # members that the fencing agent was run against
        self.fence_error: str | None = None
        self.tells: dict[str, Callable | None] = {}  # event -> makes its arguments; None: the core is not told
        self._held: dict[type, list[Callable]] = {}

    @property
    def member(self) -> Member:
        return self.rig.members[self.name]

    @property
    def core(self):
        """Of a replica, at this moment."""
        return self.member.core and self.member.core.at(self.rig.now)

    @property
    def consensus(self):
        return self.member.consensus

    @property
    def config(self) -> Config:
        return self.member.config

    @property
    def memory(self):
        return self.member.memory

    @property
    def state(self) -> Durable | None:
        """On its disk."""
        return self.member.store.load()

    @property
    def qemu(self) -> guest.Qemu | None:
        qemu = self.rig.hosts[self.name].qemu
        return qemu if qemu is not None and not qemu.dead else None

    @property
    def vm(self) -> guest.Qemu | None:
        """The QEMU that its daemon works with; None if it is about to end."""
        return self.member.vm

    def _told(self, kind: type) -> list:
        return [
            seen.thing
            for seen in self.rig.seen[self._since :]
            if seen.how == DOES and seen.who == self.name and isinstance(seen.thing, kind)
        ]

    @property
    def reports(self) -> list[str]:
        return [action.text for action in self._told(effects.Report)]

    @property
    def history(self) -> list[effects.Happened]:
        return self._told(effects.Happened)

    def views(self) -> list[tuple]:
        return [(h.facts["view"], h.facts["leader"], h.facts["cause"], h.why) for h in self.history if h.kind == "view"]

    def modes(self) -> list[str]:
        return [h.facts["mode"] for h in self.history if h.kind == "mode"]

    def status(self) -> dict:
        return self.core.status()

    def has(self, *values: int) -> bool:
        """The VM here has done these writes."""
        ram = self.memory.ram
        return all(ram[guest.CONNECTION0 + self.rig.connection(value)] & 0x7FFFFFFF == value for value in values)

    # ---- what happens to it -------------------------------------------------------------------------
    def call(self, event: str, *arguments: object) -> None:
        """An event of its shell, or a call of the operator. A refused message is raised, not noted."""
        if event in router.ANSWERS:
            self.core.answer(event, *arguments)
        else:
            getattr(self.core, event)(*arguments)
        self.member.run()

    def force(self) -> str | None:
        """As `ploverctl failover --force --yes`."""
        why = force.force(self.core)
        if why is None:
            self.rig.ghost.forced = True
            self.member.run()
        return why

    def cold_start(self, forced: bool = False) -> str | None:
        """As `ploverctl cold-start --yes`, with --force if ``forced``."""
        why = self.core.cold_start(forced)
        if why is None:
            self.rig.ghost.forgotten = True
            if forced:
                self.rig.torn_accepted.add(self.name)
        return why

    def elect_anew(self) -> None:
        """As after a candidate that could not win: deposed by its view, and elected in the next."""
        self.call("control", self.member.other, wire.VoteReply(self.consensus.view + 1, False, False, False, 0, 0))
        self.consensus.take_over(self.rig.now)
        self.member.run()

    def switchover(self) -> list:
        answers: list = []
        self.call("switchover", answers.append)
        return answers

    def audit(self, disks: bool = False) -> list:
        answers: list = []
        self.call("audit", answers.append, disks)
        return answers

    def qemu_dies(self) -> None:
        qemu = self.qemu
        qemu.dead = True
        self.member.vm_exited(qemu)

    def guest_writes(self, page: int, value: int) -> None:
        """Into memory that is no part of an answer."""
        self.qemu.write(page, value)

    # ---- what is held back --------------------------------------------------------------------------
    def hold(self, kind: type) -> list[Callable]:
        """Hold messages to it, or actions of its core, of this ``kind``; returns the list in which they wait."""
        return self._held.setdefault(kind, [])

    def let_go(self, kind: type) -> None:
        """Held messages arrive, held actions are carried out; nothing of this ``kind`` is held any longer."""
        for go_on in self._held.pop(kind):
            go_on()

    def holds(self, thing: object, go_on: Callable) -> bool:
        waiting = self._held.get(type(thing))
        if waiting is not None:
            waiting.append(go_on)
        return waiting is not None


class Rig(Watched):
    """``changes``: settings of all members."""

    def __init__(self, **changes: object) -> None:
        if pages.PAGE_BYTES != guest.BYTES:
            raise RuntimeError("a test with a Rig needs the simulator's small pages: use the fixture small_pages")
        self._changes = changes
        self.seen: list[Seen] = []
        self.seats = {name: Seat(self, name) for name in NAMES}
        self.on_purpose: str | None = None  # a violation that the test causes itself
        self.violations: list[str] = []
        self._sent: list[int] = []
        self._answered: dict[int, str] = {}
        super().__init__(0, steady=True)
        self.agreed = changes.get("output_release") == "agreed"  # then the guest speaks TCP
        self.clients_end = True  # nobody but the test
        self.clients = [self]
        self.ghost.fail = self._violated
        self._time_goes_on()

    def __getitem__(self, name: str) -> Seat:
        return self.seats[name]

    @property
    def now(self) -> float:
        return self.loop.now

    def config_of(self, name: str) -> Config:
        return Config({**group(name), **self._changes})

    def start_daemon(self, name: str) -> None:
        super().start_daemon(name)
        member = self.members[name]
        member.event = partial(self._tells, self.seats[name], member.event)

    def _time_goes_on(self) -> None:
        """Even if all hosts are dead."""
        self.loop.after(0.05, None, self._time_goes_on)

    def _violated(self, text: str) -> None:
        if self.on_purpose is None or not re.search(self.on_purpose, text):
            raise Violation(text)
        self.violations.append(text)

    # ---- between the members' cores and their surroundings --------------------------------------------
    def _tells(self, seat: Seat, tell: Callable, event: str | Callable, *arguments: object) -> None:
        if event not in seat.tells:
            return tell(event, *arguments)
        instead = seat.tells[event]
        if instead is not None:
            tell(event, *instead(*arguments))

    def gets(self, member: Member, src: str, message: object, take: Callable[[], None]) -> None:
        get = partial(super().gets, member, src, message, take)
        if not self.seats[member.name].holds(message, get):
            get()

    def does(self, member: ReplicaMember, action: object, carry_out: Callable[[object], None]) -> None:
        seat = self.seats[member.name]
        seat.done.append(type(action).__name__)
        if isinstance(action, effects.Fence):
            seat.fenced.append(action.member)
            self.loop.after(0.001, member, member.call, "fenced", action.tag, seat.fence_error)
        do = partial(super().does, member, action, carry_out)
        if not seat.holds(action, do):
            do()

    # ---- hosts and wires ----------------------------------------------------------------------------
    def kill(self, *names: str) -> None:
        """Power loss: no FIN, no goodbye."""
        for name in names:
            self.power_loss(name)

    def restart(self, name: str) -> None:
        """Power back on: only what is on the disk is left. The seat's records begin anew."""
        self.seats[name] = Seat(self, name)
        self.power_on(name)

    def install_anew(self, name: str) -> None:
        """Its state folder is empty."""
        self.power_loss(name)
        self.hosts[name].disk.wipe()
        self.ghost.forgets(name)
        self.restart(name)

    def cut(self, a: str, b: str) -> None:
        self.network.cut(a, b)
        self.network.cut(b, a)

    def heal(self, a: str | None = None, b: str | None = None) -> None:
        """This way, or all."""
        for src, dst in list(self.network.cut_since):
            if a is None or {src, dst} == {a, b}:
                self.network.heal(src, dst)

    def got(self, kind: type) -> list[Seen]:
        return self.all(GOT, kind)

    # ---- the VM and its client ------------------------------------------------------------------------
    def serving(self) -> Seat | None:
        """The seat whose VM answers clients; of two, the one of the newer view."""
        found = [m for m in self.members.values() if not m.dead and m.core and m.core.leading and m.core.leading.serving]
        newest = max(found, key=lambda m: m.consensus.view, default=None)
        return newest and self.seats[newest.name]

    def connection(self, value: int) -> int:
        """A connection of its own for each value."""
        if value not in self._sent:
            self._sent.append(value)
        return self._sent.index(value)

    def request(self, value: int) -> bytes:
        return guest.REQUEST.pack(self.connection(value), 1, guest.WRITE, 0, value, 0)

    def send_next(self, first: int, operation: int, value: int) -> None:
        """A client's write of ``value``, once, on the connection of value ``first``."""
        self.to_vm(guest.REQUEST.pack(self.connection(first), operation, guest.WRITE, 0, value, 0))

    def frame(self, value: int, mac: bytes = guest.MAC) -> bytes:
        """The same as it comes from the TAP, to whom it may be."""
        return guest.wrap(mac + self.request(value))

    def send(self, value: int) -> None:
        """A client's write of ``value``, once."""
        self.to_vm(self.request(value))

    def emit(self, member: ReplicaMember, frames: list[bytes]) -> None:
        answers = [heard.value for heard in map(speech.hear, frames) if heard.answers]
        self.seats[member.name].released += answers
        super().emit(member, frames)
        if member.tap_up:
            self._answered.update((value, member.name) for value in answers)

    def answer(self, heard: speech.Heard) -> None:
        self.ghost.acked[heard.connection] = heard

    def closed(self, connection: int) -> None:
        self.ghost.closed.add(connection)

    def write(self, value: int, limit_s: float = 3.0) -> Seat:
        """Write until it is answered; returns the seat that answered."""
        self._answered.pop(value, None)
        end = self.now + limit_s
        while value not in self._answered:
            if self.now > end:
                raise AssertionError(f"{value} was never answered: {self.sentences()}")
            self.send(value)
            again = self.now + AGAIN_S
            while self.now < again and value not in self._answered:
                self.loop.step()
        return self.seats[self._answered[value]]


def protected(**changes: object) -> Rig:
    rig = Rig(**changes)
    rig.until(rig.protected)
    return rig


def at(moment: str) -> Rig:
    """A group that is protected; in the middle of a syncvm; while the secondary is filled; without its leader."""
    group = Rig()
    if moment == "fill":
        return group.until(lambda: group["secondary"].core.role.fill is not None)
    group.until(group.protected)
    if moment == "syncvm":
        group.send(5)
        group.until(lambda: group["primary"].core.role.syncvm and group["secondary"].core.role.syncvm)
    elif moment == "leaderless":
        group.kill("primary")
        group.run(0.05)
    return group
