# SPDX-License-Identifier: GPL-3.0-or-later
"""A world that records messages, actions and stored states of its members, for tests that look at single messages."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import NamedTuple

from plover.config.settings import Config
from plover.consensus.durable import Durable

from .member import Member
from .replica import ReplicaMember
from .world import World, settings

GOT, DOES, DISK, NOTE = "got", "does", "disk", "note"
LIMIT_S = 10.0


class Seen(NamedTuple):
    """``thing``: a message got from ``src``, an action, what is now on the disk (Durable), or a sentence (``how``)."""

    at_s: float
    who: str
    how: str
    thing: object
    src: str = ""


class Steady(random.Random):
    """Always the middle: what takes 1 to 3 ms takes 2."""

    def random(self) -> float:
        return 0.5


class Watched(World):
    may_agree = False  # in the paper, all output waits for syncvms

    def __init__(self, seed: int, steady: bool = False) -> None:
        """``steady``: durations are constant and the hosts' clocks agree."""
        self.seen: list[Seen] = []
        self.before: Callable[[Seen], None] = lambda seen: None
        self.after: Callable[[Seen], None] = lambda seen: None
        self._steady = steady
        if steady:
            self.chance = Steady
        super().__init__(seed)
        if steady:
            self.network._rng = Steady("network")
        persisted = self.ghost.persisted

        def stored(name: str, state: Durable) -> None:
            self._keep(Seen(self.loop.now, name, DISK, state))
            persisted(name, state)

        self.ghost.persisted = stored

    def _keep(self, seen: Seen) -> None:
        self.seen.append(seen)
        self.before(seen)

    def note(self, who: str, text: str) -> None:
        self._keep(Seen(self.loop.now, who, NOTE, text))

    def start_daemon(self, name: str) -> None:
        host = self.hosts[name]
        if self._steady:
            host.clock_offset_s, host.clock_rate, host.rng = 0.0, 1.0, Steady(f"{name} {self.loop.now}")
            host.config = self.config_of(name)
        super().start_daemon(name)
        member = self.members[name]
        if isinstance(member, ReplicaMember) and self._steady:
            member.rng = Steady(f"{name} {self.loop.now}")

    def config_of(self, name: str) -> Config:
        """The settings of a member of a steady world."""
        return settings(name, 20, 1000)

    def gets(self, member: Member, src: str, message: object, take: Callable[[], None]) -> None:
        seen = Seen(self.loop.now, member.name, GOT, message, src)
        self._keep(seen)
        take()
        self.after(seen)

    def does(self, member: ReplicaMember, action: object, carry_out: Callable[[object], None]) -> None:
        seen = Seen(self.loop.now, member.name, DOES, action)
        self._keep(seen)
        carry_out(action)
        self.after(seen)

    # ---- for the tests --------------------------------------------------------------------------------
    def until(self, condition: Callable[[], object], limit_s: float = LIMIT_S) -> Watched:
        """Run to the very event after which ``condition`` holds."""
        end = self.loop.now + limit_s
        while not condition():
            if self.loop.now > end:
                raise AssertionError(f"not reached in {limit_s} s: {self.sentences()}")
            self.loop.step()
        return self

    def run(self, seconds: float) -> Watched:
        end = self.loop.now + seconds
        while self.loop.now < end:
            self.loop.step()
        return self

    def sentences(self) -> dict[str, str]:
        return {m.name: m.core.status()["sentence"] for m in self.members.values() if m.core and not m.dead}

    def all(self, how: str, kind: type | tuple, who: str | None = None) -> list[Seen]:
        return [s for s in self.seen if s.how == how and isinstance(s.thing, kind) and who in (None, s.who)]

    def isolate(self, name: str) -> None:
        for other in [m for m in self.members if m != name]:
            self.network.cut(name, other)
            self.network.cut(other, name)

    def rejoin(self, name: str) -> None:
        for src, dst in list(self.network.cut_since):
            if name in (src, dst):
                self.network.heal(src, dst)
