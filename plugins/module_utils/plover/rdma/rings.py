# SPDX-License-Identifier: GPL-3.0-or-later
"""The layer between a daemon and its links with ``transport: rdma``: the shell of :mod:`plover.consensus.one_sided`."""

from __future__ import annotations

import asyncio
import logging
import time
from mmap import mmap
from typing import Protocol

from ..config.settings import Config
from ..consensus.consensus import Consensus
from ..consensus.one_sided import OneSided
from ..links.carrier import Carrier
from ..links.link import HIGH_WATER_BYTES, QUEUE_BYTES_MAX, Link
from ..links.peers import PeerLinks
from ..native.guest_memory import GuestMemory
from ..protocol import wire
from .card import RdmaCard
from .devices import choose
from .library import ON_DEMAND, Card, Patience, Region
from .stream import RdmaPipe
from .verbs import ports

log = logging.getLogger("plover")


class Owner(Protocol):
    """The daemon."""

    def receive(self, member: str, message: wire.Message) -> None:
        """A message for its consensus."""

    def settle(self) -> None:
        """Its consensus may have made progress."""

    def run(self) -> None:
        """Carry out the effects of its core."""


class Rings:
    def __init__(self, config: Config, links: PeerLinks, consensus: Consensus, owner: Owner) -> None:
        """Raises NetworkError or RdmaError, with the setting and the remedy, if RDMA does not work here."""
        address = config.members[config.member]["address"]
        chosen = choose(ports(), address, config.rdma_device, config.rdma_port, config.rdma_gid_index)
        log.info("RDMA: %s, port %d, GID %d: %s", chosen.device, chosen.port, chosen.gid_index, chosen.why)
        self.choice, self._links, self._owner, self._loop = chosen, links, owner, links.loop
        self._ring_bytes, self._patience = config.rdma_ring_mib << 20, Patience(config.rdma_timeout, config.rdma_retry)
        self._device = Card(chosen.device, chosen.port, chosen.gid_index, config.rdma_mtu)
        self._card = RdmaCard(self._device, self._ring_bytes, self._patience, self)
        self.guest: Region | None = None  # guest memory, as the card reads it
        self._lending = 0
        links.make_pipe = self._make_pipe
        self.one_sided = OneSided(consensus, self._card, links.tag, owner.receive, time.time_ns() >> 24)

    def _make_pipe(self, link: Link) -> Carrier:
        """Raises RdmaError."""
        return RdmaPipe(
            self._device,
            time.time_ns(),
            self._ring_bytes,
            self._patience,
            link.piped,
            self._links.on_writable,
            link.broken,
            HIGH_WATER_BYTES,
            QUEUE_BYTES_MAX,
            lambda: self.guest,
        )

    async def lend(self, memory: GuestMemory) -> None:
        """Register guest memory, so that the card can read it: on demand if the card can, else pinned as a whole. Runs in a
        thread, as that takes long. Raises RdmaError; pages are then copied.
        """
        self._lending += 1
        await asyncio.to_thread(self._register, memory, memory.ram.map, self._lending)

    def _register(self, memory: GuestMemory, mapped: mmap, lending: int) -> None:
        region = self._device.region(mapped, ON_DEMAND if self._device.on_demand else 0)
        if lending != self._lending:  # the VM has ended in the meantime
            return region.close()
        self.guest = region
        memory.lent = True

    def take_back(self) -> None:
        """Called before guest memory is unmapped."""
        self._lending += 1
        if self.guest:
            self.guest.close()
            self.guest = None

    def send(self, to: str, message: wire.Message) -> None:
        self.one_sided.send(self._loop.time(), to, message)
        self.flush()

    def receive(self, member: str, message: wire.Message) -> None:
        """A message over TCP. The owner carries out its effects."""
        self.one_sided.receive(self._loop.time(), member, message)

    def flush(self) -> None:
        for to, message in self.one_sided.take():
            self._links.send(to, wire.CONTROL, message)
        for member, error in self.one_sided.refused():
            self._links.refuse(member, str(error))

    def poll(self) -> None:
        self.one_sided.poll(self._loop.time())

    def tick(self) -> None:
        self.one_sided.tick(self._loop.time())

    # ---- the card's events ------------------------------------------------------------------------
    def look(self) -> None:
        self.poll()
        self._owner.run()
        self.flush()

    def written(self, follower: str, ring: int, number: int, ok: bool) -> None:
        self.one_sided.written(self._loop.time(), follower, ring, number, ok)
        self._owner.settle()
        self._owner.run()
        self.flush()

    def counters_read(self, follower: str, ring: int, data: bytes) -> None:
        self.one_sided.counters_read(self._loop.time(), follower, ring, data)
        self._owner.run()
        self.flush()

    def describe(self) -> dict[str, object]:
        """For the status: the device, the members that we write to, and those that write to us."""
        return {
            "device": self.choice.device,
            "port": self.choice.port,
            "gid_index": self.choice.gid_index,
            "guest_memory": "copied" if not self.guest else "on demand" if self._device.on_demand else "pinned",
            "writes_to": sorted(f for f, ring in self.one_sided.rings.items() if ring.ready),
            "written_by": sorted(grant.leader for grant in self.one_sided.grants.values() if grant.open),
        }

    def stop(self) -> None:
        self.take_back()
        self.one_sided.close()
        self._card.shutdown()
