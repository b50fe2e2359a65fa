# SPDX-License-Identifier: GPL-3.0-or-later
"""A daemon that takes part in the consensus: its messages travel over TCP or by RDMA."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from ..config import panics
from ..config.settings import CONFIG_DIR, Config
from ..consensus.consensus import Consensus
from ..consensus.durable import Durable
from ..errors import ConfigError
from ..host.settings_file import load
from ..host.store import Store
from ..links import security
from ..links.peers import PeerLinks
from ..protocol import wire
from .life import Daemon
from .status_server import StatusServer

if TYPE_CHECKING:
    from ..rdma.rings import Rings

log = logging.getLogger("plover")


class MemberDaemon(Daemon):
    links: PeerLinks
    rings: Rings | None = None

    def __init__(self, config: Config, given: Config | None = None) -> None:
        """``given``: the settings as they were read, if some of ``config`` were chosen for this host."""
        super().__init__(config)
        self._given = given or config
        self.store = Store(config.state_path, member=config.member)

    def remembered(self) -> Durable | None:
        """The durable state of this member; None, with a warning in the log, if it is lost or too old."""
        state = self.store.begin()
        if state is None:
            log.warning(
                "%s: %s, so this member has forgotten what it promised; it takes no part until both others have told it what it missed",
                self.config.state_path,
                "state.json came back from a copy" if self.store.is_copy else "there is no state.json",
            )
        return state

    def receive(self, member: str, message: wire.Message) -> None:
        """``message`` is for the consensus; :meth:`run` carries out its effects."""
        raise NotImplementedError

    def settle(self) -> None:
        """The consensus may have made progress without a message."""
        raise NotImplementedError

    def run(self) -> None:
        raise NotImplementedError

    def go_one_sided(self, consensus: Consensus) -> None:
        """Set up RDMA if the settings say so. Raises NetworkError or RdmaError if this host cannot."""
        if self.config.transport == "rdma":
            from ..rdma.rings import Rings  # hosts without RDMA lack what it imports

            self.rings = Rings(self.config, self.links, consensus, self)

    def say(self, to: str, message: wire.Message) -> None:
        if self.rings:
            self.rings.send(to, message)
        else:
            self.links.send(to, wire.CONTROL, message)

    def hear(self, member: str, message: wire.Message) -> None:
        """A message from the control channel. The caller calls :meth:`run` afterwards."""
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
        """Deliver frames that were written into our memory. Called before silence is judged."""
        if self.rings:
            self.rings.look()

    def tick_rings(self) -> None:
        if self.rings:
            self.rings.tick()
            self.rings.flush()

    def transport(self) -> dict[str, object]:
        """For the status."""
        linked = sorted(member for member, channel in self.links.links if channel == wire.CONTROL)
        return {
            "transport": self.config.transport,
            "rdma": self.rings.describe() if self.rings else None,
            "linked": linked,
            "authenticated": self.links.authenticated(),
            "refused": {member: {"count": count, "last": why} for member, (count, why) in self.links.refusals.items()},
            **security.describe(self.links),
            "turned_away": self.links.door.turned_away,
        }

    def settings(self) -> dict[str, object]:
        """Settings that changed in the file and that this daemon will only use after a restart."""
        try:
            written = load(CONFIG_DIR / f"{self.config.name}.json").values
        except ConfigError as error:
            return {"pending": [], "problem": str(error)}
        given = self._given.values
        pending = {key for key in written if written[key] != given.get(key)}
        if panics.has_device(written) != panics.has_device(given):
            pending.add(panics.DEVICE)
        return {"pending": sorted(pending), "problem": ""}

    async def serve_status(self, status: Callable[[], Awaitable[dict[str, Any]]]) -> None:
        """For plover-exporter. Nothing depends on it, so its failure ends nothing."""
        try:
            await StatusServer(self.config.run_path, self.config.state_path, status).start()
        except OSError as error:
            log.warning("run_dir: no status for plover-exporter: %s", error)

    def stop_rings(self) -> None:
        if self.rings:
            self.rings.stop()
