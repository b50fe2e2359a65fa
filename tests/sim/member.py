# SPDX-License-Identifier: GPL-3.0-or-later
"""A simulated daemon of either kind: the consensus' messages, its memory under RDMA, its state on the disk."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from plover.config.timing import Timing
from plover.consensus.consensus import Consensus
from plover.consensus.durable import Durable
from plover.consensus.one_sided import OneSided
from plover.errors import DurableStateError, InvariantViolation, WireError
from plover.host.store import Store
from plover.protocol import wire

from .card import SimCard
from .disk import PowerLoss
from .loop import Process

if TYPE_CHECKING:
    from .host import Host

TICK_S = 0.005


class Member(Process):
    """A daemon of either kind."""

    consensus: Consensus

    def __init__(self, host: Host) -> None:
        super().__init__(host.world.loop)
        self.host, self.world, self.name, self.config = host, host.world, host.name, host.config
        self.holds = host.frozen
        self.store = Store(Path("/state"), host.disk)
        self.one_sided: OneSided | None = None

    def _remembered(self) -> Durable | None:
        state = self.store.begin()
        if state is None:
            self.world.note(self.name, "has forgotten what it promised")
        return state

    def _go_one_sided(self) -> None:
        """As with `transport: rdma`: what a leader says is written into our memory."""
        if self.world.one_sided:
            self.one_sided = OneSided(self.consensus, SimCard(self), 1, self._wrote, self.world.new_boot())

    def _wrote(self, leader: str, message: wire.Message) -> None:
        raise NotImplementedError

    def look(self) -> None:
        """At our memory."""
        self.call(self._poll)

    def _poll(self, *core: object) -> None:
        if self.one_sided:
            self.one_sided.poll(self.host.clock())

    def card_says(self, event: str, *arguments: object) -> None:
        self.call(lambda *core: self._card(event, *arguments))

    def _card(self, event: str, *arguments: object) -> None:
        getattr(self.one_sided, event)(self.host.clock(), *arguments)

    def post(self, to: str, message: wire.Message) -> None:
        """A message of our consensus."""
        if self.one_sided is None:
            return self.world.network.send(self.name, to, wire.CONTROL, message)
        self.one_sided.send(self.host.clock(), to, message)
        self.post_rest()

    def post_rest(self) -> None:
        for to, message in self.one_sided.take() if self.one_sided else ():
            self.world.network.send(self.name, to, wire.CONTROL, message)
        for src, error in self.one_sided.refused() if self.one_sided else ():
            self.world.note(self.name, f"refused: {error}")
            self.world.network.drop(self.name, src, wire.CONTROL)

    def start(self) -> None:
        self.world.loop.after(0.0, self, self._tick)

    def _tick(self) -> None:
        self._poll_first()
        self.call("tick")
        if self.one_sided:
            self.call(lambda *core: self.one_sided.tick(self.host.clock()))
        if not self.dead:
            self.ticked()
        self.world.loop.after(TICK_S, self, self._tick)

    def ticked(self) -> None:
        pass

    def _poll_first(self) -> None:
        """Before a tick judges who is silent."""
        if self.one_sided:
            self.look()

    def call(self, event: str | Callable, *arguments: object) -> None:
        """An event for the core, and what it wants done."""
        try:
            self.event(event, *arguments)
            self.run()
            self.post_rest()
            self.world.ghost.after_step(self)
        except WireError as error:
            self.world.note(self.name, f"refused: {error}")
            self.refused_message()
        except DurableStateError as error:
            self.world.note(self.name, f"ends: {error}")
            self.world.kill_daemon(self.name)
        except PowerLoss:
            self.world.power_loss(self.name)
        except InvariantViolation as error:
            self.world.ghost.fail(f"{self.name}: {error}")

    def event(self, event: str, *arguments: object) -> None:
        raise NotImplementedError

    def run(self) -> None:
        raise NotImplementedError

    def refused_message(self) -> None:
        src, channel = self._from
        self.world.network.drop(self.name, src, channel)

    def message(self, src: str, channel: int, message: wire.Message) -> None:
        self.world.gets(self, src, message, partial(self._message, src, channel, message))

    def _message(self, src: str, channel: int, message: wire.Message) -> None:
        self._from = (src, channel)
        if self.world.trace is not None and not isinstance(message, (wire.Heartbeat, wire.HeartbeatAck)):
            self.world.note(self.name, f"<- {src} {shown(message)}")
        if channel == wire.DATA or self.one_sided is None or isinstance(message, (wire.JoinRequest, wire.Leave)):
            self.received(src, channel, message)
        else:
            self.call(lambda *core: self.one_sided.receive(self.host.clock(), src, message))

    def received(self, src: str, channel: int, message: wire.Message) -> None:
        raise NotImplementedError

    def link_up(self, other: str, channel: int) -> None:
        if channel == wire.CONTROL:
            if self.one_sided:
                self.one_sided.connected(other)
            self.call("connected", other, Timing.of(self.world.hosts[other].config))

    def link_down(self, channel: int) -> None:
        pass


_SET = re.compile(r"frozenset\(\{([^}]*)\}\)")


def shown(thing: object) -> str:
    """One line, long payloads cut, sets in order: a replay reads the same whatever PYTHONHASHSEED is."""
    text = _SET.sub(lambda found: "{" + ", ".join(sorted(found[1].split(", "))) + "}", repr(thing))
    return text if len(text) < 160 else text[:157] + "..."
