# SPDX-License-Identifier: GPL-3.0-or-later
"""The simulated witness daemon, as plover.witness: consensus alone."""

from __future__ import annotations

from collections.abc import Callable

from plover.config.timing import Timing
from plover.consensus.consensus import Consensus
from plover.consensus.effects import Persist, Send
from plover.core import shell_policy as policy
from plover.protocol import wire

from .host import Host
from .member import Member


class WitnessMember(Member):
    core = None

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        kinds = {m: v["kind"] for m, v in self.config.members.items()}
        self.consensus = Consensus(self.name, kinds, self._remembered(), Timing.of(self.config), host.clock())
        self._go_one_sided()

    def _wrote(self, leader: str, message: wire.Message) -> None:
        self.consensus.receive(self.host.clock(), leader, message)

    def event(self, event: str | Callable, *arguments: object) -> None:
        if callable(event):
            event()
        elif event == "tick":
            self.consensus.tick(self.host.clock())
        else:
            getattr(self.consensus, event)(*arguments)

    def received(self, src: str, channel: int, message: wire.Message) -> None:
        if policy.witness_hears(channel, message):
            self.call("receive", self.host.clock(), src, message)

    def run(self) -> None:
        for item in self.consensus.take():
            if isinstance(item, Persist):
                self.store.save(item.state)
                self.world.ghost.persisted(self.name, item.state)
            elif isinstance(item, Send):
                self.post(item.to, item.message)
