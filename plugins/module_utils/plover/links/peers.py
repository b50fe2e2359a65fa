# SPDX-License-Identifier: GPL-3.0-or-later
"""Connections to the other members: a control channel to each, a data channel between the replicas.

The member whose name sorts first dials, and dials again when a link is lost. link.py has the greeting. Connections of channel
DISKS are dialled when they are needed, and belong to streams.py once they are greeted.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from ..config.settings import Config
from ..config.timing import Timing
from ..protocol import codec, wire
from . import auth, security, tls
from .carrier import Carrier
from .door import Door
from .link import Link
from .relay import End
from .succession import Succession

log = logging.getLogger("plover")
RETRY_S = 0.05
# With a detection time of up to half a second. A group that was given more time is on slower hosts: there a TLS handshake takes
# longer as well, and so these limits grow with it.
DIAL_TIMEOUT_S = 0.5
SILENCE_S = 2.0
DETECTION_MS = 500
TOLD_AGAIN_S = 10.0


class PeerLinks:
    def __init__(
        self,
        config: Config,
        on_message: Callable[[str, int, wire.Message], None],
        on_up: Callable[[str, int, Timing | None], None],
        on_down: Callable[[str, int], None],
        on_writable: Callable[[], None],
    ) -> None:
        """Callbacks: on_message(member, channel, message), on_up(member, channel, timing), on_down(member, channel),
        on_writable()."""
        self.config, self.loop = config, asyncio.get_running_loop()
        self.on_message, self.on_up, self.on_down, self.on_writable = on_message, on_up, on_down, on_writable
        self.tag = codec.cluster_tag(config.cluster_id)
        self._timing = Timing.of(config)
        self.patience = max(1.0, config.detection_ms / DETECTION_MS)
        self.links: dict[tuple[str, int], Link] = {}
        # With RDMA: makes the carrier of a data channel.
        self.make_pipe: Callable[[Link], Carrier] | None = None
        self.door = Door(frozenset(member["address"] for member in config.members.values()), self.loop.time())
        members = tuple(config.members)
        self.tls = tls.Folder(config.tls_path, config.cluster_id, config.member, members) if config.link_security == "tls" else None
        self.watch = security.Watch(self, self.tls) if self.tls else None
        self.knows: dict[str, frozenset[str]] = {}  # of each member that has had a link since we began; see links/hello.py
        self._hinted_at: dict[str, float] = {}
        self.renewing: set[Link] = set()
        self.refusals: dict[str, tuple[int, str]] = {}  # of messages of members that were let in: how many, the last reason
        self._told_at = float("-inf")
        self.on_stream: Callable[[str, int, End], None] | None = None  # (member, channel, a greeted connection of a disk)
        self._streams: dict[Link, asyncio.Future[End]] = {}  # those that we dial
        self._tasks: list[asyncio.Task[None]] = []
        self._server: asyncio.Server | None = None
        self._stopped = False  # asyncio.wait_for may swallow the end of a task, if what it waits for is done at that moment

    def all_know(self, what: str) -> bool:
        """All other members run a version that knows it, as far as they have had a link to us."""
        return all(what in self.knows.get(member, ()) for member in self.config.members if member != self.config.member)

    async def start(self) -> None:
        """Listen and dial. Raises OSError if the port is taken, ConfigError if the secret's file or those of TLS are not valid."""
        security.begin(self)
        if not self.secrets().known and not self.tls:
            log.warning("%s says 'open': whoever knows the cluster_id may join; run the deploy play", self.config.secret_path)
        address = self.config.members[self.config.member]["address"]
        self._server = await self.loop.create_server(lambda: Link(self, None), address, self.config.port)
        if self.watch:
            self._tasks.append(self.loop.create_task(self.watch.run()))
        for other in self.config.members:
            if self.config.member < other:
                channels = [wire.CONTROL]
                if {other, self.config.member} == set(self.config.replicas):
                    channels.append(wire.DATA)
                self._tasks += [self.loop.create_task(self._keep(other, channel)) for channel in channels]

    async def _keep(self, other: str, channel: int) -> None:
        """Keep one connection to ``other`` up; close a silent link and dial again."""
        while not self._stopped:
            link = self.links.get((other, channel))
            if link is None:
                await self._link_to(Link(self, (other, channel)), other)
            elif link.stale and self.renewable(other, channel):
                link.stale = False
                await self._link_to(Link(self, (other, channel), renews=True), other)
            elif channel == wire.CONTROL and link.silent_s() > SILENCE_S * self.patience:
                log.warning("%s did not answer for %d s; dialling it again", other, SILENCE_S * self.patience)
                self.close(other)
            await asyncio.sleep(RETRY_S)

    async def _link_to(self, link: Link, other: str) -> None:
        """Dial, and wait until the link is up or refused, or takes long: a second one would only take its place. A link that renews
        another one is waited for to its end."""
        try:
            await self._dial(link, other)
            await asyncio.wait({link.settled}, timeout=None if link.renews else DIAL_TIMEOUT_S * self.patience)
        except (OSError, asyncio.TimeoutError):
            pass  # it is down; we dial again

    def is_up(self, member: str, channel: int) -> bool:
        return (member, channel) in self.links

    def renewable(self, member: str, channel: int) -> bool:
        """Is there a link whose place another one can take? Guest memory that goes by RDMA does not go by it."""
        link = self.links.get((member, channel))
        return link is not None and link.greeted and link.pipe is None and link.succession is None

    async def _dial(self, link: Link, other: str) -> None:
        """Raises OSError or asyncio.TimeoutError."""
        address = self.config.members[other]["address"]
        await asyncio.wait_for(self.loop.create_connection(lambda: link, address, self.config.port), DIAL_TIMEOUT_S * self.patience)

    async def dial_stream(self, other: str, channel: int) -> End:
        """A new connection of a disk, by DISKS or DISKS_KEYED, greeted. Raises OSError, EOFError or asyncio.TimeoutError."""
        link = Link(self, (other, channel))
        greeted: asyncio.Future[End] = self.loop.create_future()
        self._streams[link] = greeted
        try:
            await self._dial(link, other)
            return await greeted  # bounded, see Link._no_hello
        except BaseException:
            if greeted.done() and not greeted.cancelled() and not greeted.exception():
                greeted.result().abort()
            raise
        finally:
            del self._streams[link]

    def stream_up(self, link: Link, rest: bytes) -> None:
        """``link`` is greeted; ``rest`` came after the greeting. Its transport gets another protocol, so it is a link no more."""
        greeted = self._streams.get(link)
        awaited = greeted is not None and not greeted.done()
        if not awaited and (link.dialled or self.on_stream is None):
            link.transport.abort()
            return
        end = End.over(link.transport, rest)
        if self.watch:
            self.watch.streams[end] = link
        if greeted is not None and awaited:
            greeted.set_result(end)
        elif self.on_stream:
            self.on_stream(link.member, link.channel, end)

    def has_channel(self, member: str, channel: int) -> bool | None:
        """Does ``member``, by its own word, know this channel? None: there is no link to it."""
        link = self.links.get((member, wire.CONTROL))
        return channel in link.channels if link else None

    def secrets(self) -> auth.Secrets:
        """The secrets now: they may change while we run. Raises ConfigError."""
        return auth.read(self.config.secret_path)

    def authenticated(self) -> dict[str, bool]:
        """For each linked member: has it proved that it knows the secret?"""
        return {member: link.greeting.session.proven for (member, channel), link in self.links.items() if channel == wire.CONTROL}

    def enter(self, address: str) -> bool:
        """May a new connection from ``address`` wait for its greeting?"""
        now = self.loop.time()
        lets_in = self.door.enter(now, address)
        if not lets_in and now - self._told_at >= TOLD_AGAIN_S:
            self._told_at = now
            log.warning(
                "too many connections to port %d that do not prove to be a member's, the last one from %s: %d turned away so far; "
                "let nobody but the members reach this port",
                self.config.port,
                address,
                self.door.turned_away,
            )
        return lets_in

    def leave(self, address: str) -> None:
        self.door.leave(address)

    def refused(self, member: str, why: str) -> None:
        """A message that makes no sense from ``member`` cost it its link."""
        self.refusals[member] = (self.refusals.get(member, (0, ""))[0] + 1, why[:200])

    def refuse(self, member: str, why: str) -> None:
        """What ``member`` wrote into our memory, or showed us in its own, makes no sense: it costs it its link, too."""
        log.error("link to %s refused: %s", member, why)
        self.refused(member, why)
        self.close(member, wire.CONTROL)

    def not_greeted(self, link: Link) -> None:
        """``link``, which we have dialled, was closed by the other end before it was greeted, and we do not know why."""
        member, now = link.dialled[0] if link.dialled else "", self.loop.time()
        if self.tls and now - self._hinted_at.get(member, float("-inf")) >= TOLD_AGAIN_S:
            self._hinted_at[member] = now
            log.warning("%s", security.hint(self, link, member))

    def link_up(self, link: Link) -> None:
        old = self.links.get((link.member, link.channel))
        if old is not None and link.renews:
            self.links[link.member, link.channel] = link
            Succession(old, link, self.loop.call_later)
            self.on_writable()
            return
        if old is not None:
            self.link_down(old)
            old.transport.abort()
        self.links[link.member, link.channel] = link
        if link.channel == wire.CONTROL and link.timing not in (None, self._timing):
            log.warning(
                "%s goes by other time-outs (%s; here %s): 'failover_budget_ms' and the settings derived from it must be "
                "equal everywhere; run the rolling_restart play",
                link.member,
                link.timing,
                self._timing,
            )
        self.knows[link.member] = link.knows
        self.on_up(link.member, link.channel, link.timing)

    def link_down(self, link: Link) -> None:
        greeted = self._streams.get(link)
        if greeted is not None and not greeted.done():
            greeted.set_exception(EOFError("it closed the connection"))
        if link.member and self.links.get((link.member, link.channel)) is link:
            del self.links[link.member, link.channel]
            self.on_down(link.member, link.channel)

    def send(self, member: str, channel: int, message: wire.Message) -> None:
        """Best effort: without a connection the message is lost, as on any network."""
        link = self.links.get((member, channel))
        if link:
            link.send(message)

    def writable(self, member: str) -> bool:
        link = self.links.get((member, wire.DATA))
        return link is None or (link.pipe.writable if link.pipe else link.writable)

    def close(self, member: str, channel: int | None = None) -> None:
        for key, link in list(self.links.items()):
            if key[0] == member and channel in (None, key[1]):
                link.transport.abort()

    async def stop(self) -> None:
        self._stopped = True
        for task in self._tasks:
            task.cancel()
        for link in list(self.links.values()):
            link.transport.abort()
        if self._server:
            self._server.close()
