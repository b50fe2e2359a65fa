# SPDX-License-Identifier: GPL-3.0-or-later
"""The witness daemon: a voter and acceptor without a VM. It never leads."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from .. import __version__
from ..config.settings import Config
from ..config.timing import Timing
from ..consensus.consensus import Consensus
from ..consensus.effects import Deposed, Persist, Send
from ..core import shell_policy as policy
from ..core.event_log import EventLog
from ..core.status import OFF, as_heard, consensus_status, mode, sentence_of_off, service_of
from ..core.told_events import Standing
from ..daemon.control_server import ControlServer
from ..daemon.member import MemberDaemon
from ..links.peers import PeerLinks
from ..protocol import wire

log = logging.getLogger("plover")
TICK_S = 0.02


class Witness(MemberDaemon):
    def __init__(self, config: Config) -> None:
        super().__init__(config)
        kinds = {m: v["kind"] for m, v in config.members.items()}
        self.consensus = Consensus(config.member, kinds, self.remembered(), Timing.of(config), self.loop.time())
        self.event_log = EventLog(self.loop.time())
        self.links = PeerLinks(config, self._on_message, self._on_link_up, lambda *a: None, lambda: None)

    async def setup(self) -> None:
        self.go_one_sided(self.consensus)
        await self.links.start()
        self.control = ControlServer(self.config.run_path / "ctl.sock", self)
        await self.control.start()
        await self.serve_status(self._status)
        self.spawn(self._ticker())

    async def _ticker(self) -> None:
        while True:
            self.look()
            self.consensus.tick(self.loop.time())
            self.run()
            self.tick_rings()
            self.alive()
            why = as_heard(self.consensus, self._service(), self._sentence())
            for happened in self.event_log.look(self.loop.time(), self._service(), why):
                self.note(*happened)
            await asyncio.sleep(TICK_S)

    def _on_message(self, member: str, channel: int, message: wire.Message) -> None:
        if policy.witness_hears(channel, message):
            self.hear(member, message)
            self.run()

    def receive(self, member: str, message: wire.Message) -> None:
        self.consensus.receive(self.loop.time(), member, message)

    def settle(self) -> None:
        """A witness leads nothing."""

    def _on_link_up(self, member: str, channel: int, timing: Timing | None) -> None:
        self.linked(member)
        self.consensus.connected(member, timing)

    def run(self) -> None:
        for item in self.consensus.take():
            if isinstance(item, Persist):
                self.store.save(item.state)
            elif isinstance(item, Send):
                self.say(item.to, item.message)
            elif isinstance(item, Deposed):
                log.info("view %d%s", item.view, f", led by {item.leader}" if item.leader else "")
                if item.leader:
                    for happened in self.event_log.follows(self.loop.time(), item.view, item.leader, self.consensus.votes.transfer_granted):
                        self.note(*happened)

    def _heard(self) -> bool:
        cons = self.consensus
        within_s = self.config.peer_timeout_ms / 1000
        return cons.leader is not None and cons.hears(cons.leader, self.loop.time(), within_s)

    def _service(self) -> str:
        return service_of(self.consensus, self._heard())

    def _sentence(self) -> str:
        if self.consensus.amnesia:
            return self.consensus.forgotten(self.loop.time())
        if self._service() == OFF:
            return f"voting; {sentence_of_off(self.consensus, self.config.on_crash)}"
        return f"voting; {self.consensus.leader} leads" if self._heard() else "voting; no leader is heard"

    def standing(self) -> Standing:
        return Standing("witness", self.consensus.view, self.consensus.leader)

    async def operator(self, request: dict[str, Any]) -> dict[str, Any]:
        if request.get("cmd") == "settings":
            return self.settings()
        if request.get("cmd") != "status":
            return {"error": f"{request.get('cmd')!r} is not for a witness; run it on a replica"}
        return await self._status()

    async def _status(self) -> dict[str, Any]:
        return {
            **consensus_status(self.consensus),
            "name": self.config.name,
            "role": "witness",
            "service": self._service(),
            **self.transport(),
            **self.telling.describe(),
            "sentence": self._sentence(),
            **mode(self.event_log, self.loop.time()),
            "syncvms": 0,
            "totals": {},
            "last_syncvm": None,
            "dirty_tracking": "",
            "budget": self.config.budget._asdict(),
            "versions": {"plover": __version__, "qemu": ""},
        }

    async def teardown(self) -> None:
        self.stop_rings()
        await self.links.stop()
