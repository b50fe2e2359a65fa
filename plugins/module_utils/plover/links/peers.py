# SPDX-License-Identifier: GPL-3.0-or-later
"""Connections to the other members: a control channel to each, a data channel between the replicas.

The member whose name sorts first dials. Each connection opens with a Hello on both sides, then both prove that they know the
VM's secret, if they have one; anything that is not of this cluster, or not a message, is logged once and closed, and harms
nobody.
"""
from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import Callable
from typing import Protocol

from .. import __version__
from ..config.settings import Config
from ..config.timing import TOLD, Timing
from ..errors import ConfigError, PloverError, RdmaError, WireError
from ..protocol import codec, wire
from . import auth

log = logging.getLogger("plover")
RETRY_S = 0.05
DIAL_TIMEOUT_S = 0.5
HELLO_TIMEOUT_S = 2.0
GREETING_BYTES_MAX = 128 << 10  # what we hold of one who is not let in yet
SILENCE_S = 2.0
UNANSWERED_MS = 3000  # what was sent and not acknowledged for so long: the connection is dead
READ_BYTES_MAX = 256 << 10
HIGH_WATER_BYTES = 4 << 20
QUEUE_BYTES_MAX = 128 << 20


class Carrier(Protocol):
    """What carries the messages of a data channel in TCP's place (rdma/stream.py); TCP sets it up."""

    address: bytes
    writable: bool

    def connect(self, address: bytes) -> None: ...

    def send(self, parts: object) -> None: ...

    def close(self) -> None: ...


class Link(asyncio.BufferedProtocol):
    """One TCP connection. ``member`` is known once its Hello came; nothing of it is heard before it is ``greeted``, with its
    proof where one is needed.

    It reads into a buffer of its own: a plain Protocol gets new memory for each read, of which the kernel's part (map,
    shrink, fault, unmap) costs several times what the read does.
    """

    def __init__(self, links: PeerLinks, dialled: tuple[str, int] | None) -> None:
        self.links, self.dialled = links, dialled
        self.member: str | None = None
        self.timing: Timing | None = None  # the other's, if it tells it
        self.greeted = False
        self.session: auth.Session | None = None
        self._hello = b""  # ours
        self.channel = wire.CONTROL
        self.writable = True
        self.heard = links.loop.time()
        self.pipe: Carrier | None = None  # what carries this data channel's messages, with RDMA
        self._decoder = codec.Decoder(links.tag)
        self._buffer = memoryview(bytearray(READ_BYTES_MAX))

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # A data channel that one end closed behind a cut looks open at the other, who may have nothing to send on it.
        for option, value in ((socket.TCP_KEEPIDLE, 1), (socket.TCP_KEEPINTVL, 1), (socket.TCP_KEEPCNT, 3)):
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNANSWERED_MS)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        transport.set_write_buffer_limits(high=HIGH_WATER_BYTES)
        self.links.loop.call_later(HELLO_TIMEOUT_S, self._no_hello)
        try:
            self.session = auth.Session(self.links.secrets(), self.links.config.member)
        except ConfigError as error:
            self._refuse(error)
            return
        if self.dialled:
            self._say_hello(self.dialled[1])

    def _say_hello(self, channel: int) -> None:
        hello = self.links.hello(channel, self.session.nonce)
        self._hello = hello.payload
        self._by_tcp(hello)

    def _no_hello(self) -> None:
        if not self.greeted:
            self.transport.abort()

    def send(self, message: wire.Message) -> None:
        if self.pipe is None:
            self._by_tcp(message)
            return
        try:
            self.pipe.send(codec.encode(message, self.links.tag))
        except OverflowError as error:
            self.broken(str(error))

    def broken(self, why: str) -> None:
        log.error("link to %s: %s; closing it", self.member, why)
        self.transport.abort()

    def _by_tcp(self, message: wire.Message) -> None:
        if self.transport.get_write_buffer_size() > QUEUE_BYTES_MAX:
            log.error("link to %s: over %d bytes unsent, closing it", self.member, QUEUE_BYTES_MAX)
            self.transport.abort()
        elif not self.transport.is_closing():
            self.transport.writelines(map(bytes, codec.encode(message, self.links.tag)))

    def pause_writing(self) -> None:
        self.writable = False

    def resume_writing(self) -> None:
        self.writable = True
        if self.member and self.channel == wire.DATA:
            self.links.on_writable()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.heard = self.links.loop.time()
        try:
            for message in self._decoder.feed(self._buffer[:nbytes]):
                if self.member is None:
                    self._greet(message)
                elif isinstance(message, wire.Hello):
                    raise WireError("a second Hello")
                elif isinstance(message, wire.Proof) or not self.greeted:
                    self._prove(message)
                elif isinstance(message, wire.GREETINGS) and self.pipe is None:
                    raise WireError(f"{type(message).__name__}, but this channel is TCP here; make 'transport' equal")
                elif self.pipe is not None:
                    self._set_up_pipe(message)
                else:
                    self.links.on_message(self.member, self.channel, message)
                if self.transport.is_closing():
                    return
            if not self.greeted and self._decoder.waiting > GREETING_BYTES_MAX:
                raise WireError(f"over {GREETING_BYTES_MAX} bytes before it is let in")
        except (WireError, RdmaError) as error:
            self._refuse(error)

    def _refuse(self, error: PloverError) -> None:
        log.error("link to %s refused: %s", self.member or self.transport.get_extra_info("peername"), error)
        self.transport.abort()

    def piped(self, data: bytes) -> None:
        """What came through the pipe."""
        try:
            for message in self._piped.feed(data):
                self.links.on_message(self.member, self.channel, message)
        except WireError as error:
            self._refuse(error)

    def _set_up_pipe(self, message: wire.Message) -> None:
        if isinstance(message, wire.PipeAddress):
            self.pipe.connect(message.payload)
            self._by_tcp(wire.PipeReady())
        elif isinstance(message, wire.PipeReady):
            self.links.link_up(self)
        else:
            raise WireError(f"{type(message).__name__} by TCP on a channel with a pipe; make 'transport' equal everywhere")

    def _greet(self, message: wire.Message) -> None:
        if not isinstance(message, wire.Hello):
            raise WireError(f"{type(message).__name__} before Hello")
        self.member, self.channel, self.timing = self.links.check_hello(message, self.dialled)
        if not self.dialled:
            self._say_hello(self.channel)
        theirs = bytes(message.payload)
        hellos = (self._hello, theirs) if self.dialled else (theirs, self._hello)
        proof = self.session.greeted(self.member, json.loads(theirs).get("nonce"), *hellos)
        if proof:
            self._by_tcp(wire.Proof(proof))
        else:
            self._established()

    def _prove(self, message: wire.Message) -> None:
        if not isinstance(message, wire.Proof):
            raise WireError(f"{type(message).__name__} before a proof")
        self.session.verify(message.payload)
        self._established()

    def _established(self) -> None:
        self.greeted = True
        if self.channel == wire.DATA and self.links.make_pipe:
            self._piped = codec.Decoder(self.links.tag)
            self.pipe = self.links.make_pipe(self)
            self._by_tcp(wire.PipeAddress(self.pipe.address))
        else:
            self.links.link_up(self)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.pipe:
            self.pipe.close()
        self.links.link_down(self)


class PeerLinks:
    def __init__(self, config: Config, on_message: Callable, on_up: Callable, on_down: Callable,
                 on_writable: Callable) -> None:
        """Callbacks: on_message(member, channel, message), on_up(member, channel, timing), on_down(member, channel),
        on_writable()."""
        self.config, self.loop = config, asyncio.get_running_loop()
        self.on_message, self.on_up, self.on_down, self.on_writable = on_message, on_up, on_down, on_writable
        self.tag = codec.cluster_tag(config.cluster_id)
        self._timing = Timing.of(config)
        self.links: dict[tuple[str, int], Link] = {}
        # With RDMA: what carries a data channel's messages. Control channels may be silent then; TCP finds dead ones itself.
        self.make_pipe: Callable[[Link], Carrier] | None = None
        self._tasks: list[asyncio.Task] = []
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen and dial. Raises OSError if the port is taken, ConfigError if the secret's file is no such."""
        if not self.secrets().known:
            log.warning("no secret in %s: members are known by the cluster_id alone; run the deploy play",
                        self.config.secret_path)
        address = self.config.members[self.config.member]["address"]
        self._server = await self.loop.create_server(lambda: Link(self, None), address, self.config.port)
        for other in self.config.members:
            if self.config.member < other:
                channels = [wire.CONTROL]
                if {other, self.config.member} == set(self.config.replicas):
                    channels.append(wire.DATA)
                self._tasks += [self.loop.create_task(self._keep(other, channel)) for channel in channels]

    async def _keep(self, other: str, channel: int) -> None:
        """Keep one connection to ``other`` up; a link that has gone silent is closed and dialled anew."""
        address = self.config.members[other]["address"]
        while True:
            link = self.links.get((other, channel))
            if link is None:
                try:
                    await asyncio.wait_for(self.loop.create_connection(
                        lambda: Link(self, (other, channel)), address, self.config.port), DIAL_TIMEOUT_S)
                except (OSError, asyncio.TimeoutError):
                    pass  # it is down; we ask again
            elif channel == wire.CONTROL and self.loop.time() - link.heard > SILENCE_S and not self.make_pipe:
                self.close(other)
            await asyncio.sleep(RETRY_S)

    def secrets(self) -> auth.Secrets:
        """Of this moment: they may be changed while we run. Raises ConfigError."""
        return auth.read(self.config.secret_path, required=bool(self.config.secret_file))

    def authenticated(self) -> dict[str, bool]:
        """Of each member that is linked, whether it proved that it knows the secret."""
        return {member: link.session.proven for (member, channel), link in self.links.items() if channel == wire.CONTROL}

    def hello(self, channel: int, nonce: str = "") -> wire.Hello:
        """An older member takes no notice of ``nonce`` and of our timing."""
        timing = {key: self.config.values[key] for key in TOLD}
        return wire.Hello(json.dumps({"cluster_id": self.config.cluster_id, "member": self.config.member, "channel": channel,
                                      "version": __version__, **timing, **({"nonce": nonce} if nonce else {})}).encode())

    def check_hello(self, message: wire.Hello, dialled: tuple[str, int] | None) -> tuple[str, int, Timing | None]:
        """(member, channel, its timing if it tells it) of a Hello; raises WireError if it is not one of ours."""
        try:
            data = json.loads(message.payload)
            member, channel = data["member"], data["channel"]
            cluster = data["cluster_id"]
            if not isinstance(member, str) or not isinstance(channel, int) or isinstance(channel, bool):
                raise TypeError("'member' must be a string, 'channel' a number")
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise WireError(f"malformed Hello: {error}") from error
        if cluster != self.config.cluster_id:
            raise WireError(f"Hello of cluster {cluster}, ours is {self.config.cluster_id}; check 'cluster_id'")
        if member not in self.config.members or member == self.config.member:
            raise WireError(f"Hello of {member!r}, who is no other member; check 'members' and 'member'")
        if channel not in (wire.CONTROL, wire.DATA) or (dialled and dialled != (member, channel)):
            raise WireError(f"Hello of {member} for channel {channel}, expected {dialled}")
        return member, channel, Timing.told(data)

    def link_up(self, link: Link) -> None:
        old = self.links.get((link.member, link.channel))
        if old is not None:
            self.link_down(old)
            old.transport.abort()
        self.links[link.member, link.channel] = link
        if link.channel == wire.CONTROL and link.timing not in (None, self._timing):
            log.warning("%s goes by other time-outs (%s; here %s): 'failover_budget_ms' and what follows from it must be "
                        "equal everywhere; run the rolling_restart play", link.member, link.timing, self._timing)
        self.on_up(link.member, link.channel, link.timing)

    def link_down(self, link: Link) -> None:
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
        for task in self._tasks:
            task.cancel()
        for link in list(self.links.values()):
            link.transport.abort()
        if self._server:
            self._server.close()
