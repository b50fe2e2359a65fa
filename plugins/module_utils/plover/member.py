# SPDX-License-Identifier: GPL-3.0-or-later
"""A daemon that takes part in the consensus: how what its consensus says travels, by messages or by RDMA."""
from __future__ import annotations

from typing import TYPE_CHECKING

from . import wire
from .consensus import Consensus
from .daemon import Daemon
from .peers import PeerLinks

if TYPE_CHECKING:
    from .rings import Rings


class MemberDaemon(Daemon):
    links: PeerLinks
    rings: Rings | None = None

    def receive(self, member: str, message: wire.Message) -> None:
        """``message`` is for the consensus; what follows is done by :meth:`run`."""
        raise NotImplementedError

    def settle(self) -> None:
        """The consensus may have come further without a message."""
        raise NotImplementedError

    def run(self) -> None:
        raise NotImplementedError

    def go_one_sided(self, consensus: Consensus) -> None:
        """If the settings say so. Raises NetworkError or RdmaError if this host cannot."""
        if self.config.transport == "rdma":
            from .rings import Rings  # hosts without RDMA lack what it imports
            self.rings = Rings(self.config, self.links, consensus, self)

    def say(self, to: str, message: wire.Message) -> None:
        if self.rings:
            self.rings.send(to, message)
        else:
            self.links.send(to, wire.CONTROL, message)

    def hear(self, member: str, message: wire.Message) -> None:
        """By message, on the control channel. The caller runs what follows."""
        if self.rings:
            self.rings.receive(member, message)
            self.run()
            self.rings.flush()
        else:
            self.receive(member, message)

    def linked(self, member: str) -> None:
        """A new control connection; the caller tells the consensus."""
        if self.rings:
            self.rings.one_sided.connected(member)

    def look(self) -> None:
        """Before silence is judged: what was written into our memory?"""
        if self.rings:
            self.rings.look()

    def tick_rings(self) -> None:
        if self.rings:
            self.rings.tick()
            self.rings.flush()

    def transport(self) -> dict[str, object]:
        """For the status."""
        return {"transport": self.config.transport, "rdma": self.rings.describe() if self.rings else None,
                "authenticated": self.links.authenticated()}

    def stop_rings(self) -> None:
        if self.rings:
            self.rings.stop()
