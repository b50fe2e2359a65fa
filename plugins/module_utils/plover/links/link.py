# SPDX-License-Identifier: GPL-3.0-or-later
"""One connection to another member: its greeting (greeting.py), then messages in both directions.

Bytes that are no message, or a message of another cluster, close the connection with one line in the log and harm nothing else.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import Callable
from typing import Protocol, cast

from ..config.settings import Config
from ..config.timing import Timing
from ..errors import ConfigError, PloverError, RdmaError, WireError
from ..protocol import codec, wire
from . import auth, hello, secure, tls
from .carrier import Carrier
from .greeting import Greeting
from .secure_transport import SecureTransport
from .succession import S_MAX, Succession

log = logging.getLogger("plover")
HELLO_TIMEOUT_S = 2.0
GREETING_BYTES_MAX = 128 << 10  # limit of buffered bytes from a member that is not let in yet
UNANSWERED_MS = 3000  # bytes that TCP does not acknowledge for this long: the connection is dead
READ_BYTES_MAX = 256 << 10
GREETING_READ_BYTES_MAX = 4 << 10  # at a time, before it is let in
HIGH_WATER_BYTES = 4 << 20
QUEUE_BYTES_MAX = 128 << 20
TCP_INFO_SINCE = struct.Struct("52x 2I")  # linux/tcp.h: tcpi_last_data_recv and tcpi_last_ack_recv, in ms


class Owner(Protocol):
    """All links of a member (peers.py), as one link sees them."""

    config: Config
    loop: asyncio.AbstractEventLoop
    tag: int
    make_pipe: Callable[[Link], Carrier] | None
    tls: tls.Folder | None  # with link_security: tls
    on_message: Callable[[str, int, wire.Message], None]
    on_writable: Callable[[], None]
    renewing: set[Link]  # that are being greeted
    patience: float  # time limits are so many times their least

    def secrets(self) -> auth.Secrets: ...

    def enter(self, address: str) -> bool: ...

    def leave(self, address: str) -> None: ...

    def refused(self, member: str, why: str) -> None: ...

    def link_up(self, link: Link) -> None: ...

    def stream_up(self, link: Link, rest: bytes) -> None: ...

    def link_down(self, link: Link) -> None: ...

    def not_greeted(self, link: Link) -> None: ...

    def renewable(self, member: str, channel: int) -> bool: ...

    def is_up(self, member: str, channel: int) -> bool: ...


class Link(asyncio.BufferedProtocol):
    """One TCP connection. ``member`` is empty until its Hello has come. Its messages do not count before it is ``greeted``,
    with a proof where one is needed.

    It reads into its own buffer. A plain Protocol gets new memory for each read, and the kernel's work for that (map, shrink,
    fault, unmap) costs several times as much as the read.
    """

    def __init__(self, links: Owner, dialled: tuple[str, int] | None, renews: bool = False) -> None:
        """``renews``: it shall take the place of the link that is up."""
        self.links, self.dialled = links, dialled
        self.member = ""
        self.timing: Timing | None = None  # the other member's, if it tells it
        self.channels = hello.FIRST_CHANNELS  # those that the other member has
        self.knows: frozenset[str] = frozenset()
        self.greeted = False
        self.greeting: Greeting
        self.secure: secure.Secure | None = None  # its TLS
        self.own_serial = 0  # of our certificate, with TLS
        self.renews = renews
        self.stale = self.ended = False  # a new link shall take its place · the other end sends no more
        self.succession: Succession | None = None
        self.settled = links.loop.create_future()  # done once the link is up, or has ended
        self.channel = wire.CONTROL
        self.writable = True
        self.pipe: Carrier | None = None  # what carries this data channel's messages, with RDMA
        self._decoder = codec.Decoder(links.tag)
        self._piped = codec.Decoder(links.tag)
        self._buffer = memoryview(bytearray(GREETING_READ_BYTES_MAX))
        self._refused = False
        self._in_time: asyncio.TimerHandle
        self._waits_at = ""  # the other end's address, while this connection waits for its greeting

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport = cast(asyncio.Transport, transport)
        if not self.dialled and not self._enters(str(transport.get_extra_info("peername")[0])):
            transport.abort()
            return
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # If one end closes a data channel while the network is cut, the other end sees it open and may have nothing to send.
        for option, value in ((socket.TCP_KEEPIDLE, 1), (socket.TCP_KEEPINTVL, 1), (socket.TCP_KEEPCNT, 3)):
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNANSWERED_MS)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        transport.set_write_buffer_limits(high=HIGH_WATER_BYTES)
        self._in_time = self.links.loop.call_later(HELLO_TIMEOUT_S * self.links.patience, self._no_hello)
        try:
            self.greeting = Greeting(self)
            if self.dialled:
                self.greeting.dial(self.dialled[1])
        except (ConfigError, WireError) as error:
            self.refuse(error)

    def _enters(self, address: str) -> bool:
        if self.links.enter(address):
            self._waits_at = address
        return bool(self._waits_at)

    def _leave(self) -> None:
        if self._waits_at:
            self.links.leave(self._waits_at)
            self._waits_at = ""

    def _no_hello(self) -> None:
        self.transport.abort()

    def send(self, message: wire.Message) -> None:
        if self.pipe is None:
            self.by_tcp(message)
            return
        try:
            self.pipe.send(codec.encode(message, self.links.tag))
        except OverflowError as error:
            self.broken(str(error))

    def broken(self, why: str) -> None:
        log.warning("link to %s: %s; closing it", self.member, why)
        self.transport.abort()

    def by_tcp(self, message: wire.Message) -> None:
        if self.transport.get_write_buffer_size() > QUEUE_BYTES_MAX:
            log.warning("link to %s: over %d bytes unsent, closing it", self.member, QUEUE_BYTES_MAX)
            self.transport.abort()
        elif not self.transport.is_closing():
            self.transport.writelines(map(bytes, codec.encode(message, self.links.tag)))

    def silent_s(self) -> float:
        """For how long nothing has come from the other end, not even an acknowledgement. Its kernel acknowledges our keepalives, so a
        link by which nobody has anything to say is not silent. (A secondary and the witness are silent as long as all is well.)"""
        if self.transport.is_closing():
            return 0.0
        info = self.transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_SINCE.size)
        since_ms: tuple[int, int] = TCP_INFO_SINCE.unpack(info)
        return min(since_ms) / 1000

    def pause_writing(self) -> None:
        self.writable = False

    def resume_writing(self) -> None:
        self.writable = True
        if self.member and self.channel == wire.DATA:
            self.links.on_writable()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        data = self._buffer[:nbytes]
        try:
            if not self.greeting.takes(data):
                self._received(data)
        except (WireError, RdmaError) as error:
            self.refuse(error)

    def _received(self, data: memoryview) -> None:
        for message in self._decoder.feed(data):
            if not self.member:
                self.greeting.hear_hello(message)
            elif isinstance(message, wire.Hello):
                self._hello_again()
            elif isinstance(message, wire.Proof) or not self.greeted:
                self.greeting.hear_proof(message)
            elif isinstance(message, wire.GREETINGS) and self.pipe is None:
                raise WireError(f"{type(message).__name__}, but this channel is TCP here; make 'transport' equal")
            elif self.pipe is not None:
                self._set_up_pipe(self.pipe, message)
            elif not (self.succession and self.succession.holds(self, message)):
                self.links.on_message(self.member, self.channel, message)
            if self.transport.is_closing():
                return
            if self.is_stream:
                break
        if self.is_stream:
            return self.links.stream_up(self, self._decoder.rest())
        if not self.greeted and self._decoder.waiting > GREETING_BYTES_MAX:
            raise WireError(f"over {GREETING_BYTES_MAX} bytes before it is let in")

    @property
    def is_stream(self) -> bool:
        """It is greeted, and what follows are bytes of a disk's stream, no messages: another protocol takes the transport."""
        return self.greeted and self.channel in (wire.DISKS, wire.DISKS_KEYED)

    def refuse(self, error: PloverError) -> None:
        self._refused = True
        whom = self.member or (self.dialled[0] if self.dialled else self.transport.get_extra_info("peername"))
        log.error("link to %s refused: %s", whom, error)
        if self.greeted:
            self.links.refused(self.member, str(error))
        self.transport.abort()

    def piped(self, data: bytes) -> None:
        """Bytes from the pipe."""
        try:
            for message in self._piped.feed(data):
                self.links.on_message(self.member, self.channel, message)
        except WireError as error:
            self.refuse(error)

    def _set_up_pipe(self, pipe: Carrier, message: wire.Message) -> None:
        if isinstance(message, wire.PipeAddress):
            pipe.connect(message.payload)
            self.by_tcp(wire.PipeReady())
        elif isinstance(message, wire.PipeReady):
            self._up()
        else:
            raise WireError(f"{type(message).__name__} by TCP on a channel with a pipe; make 'transport' equal everywhere")

    def established(self) -> None:
        """The greeting is over: its messages count from now on."""
        self.greeted = True
        self._in_time.cancel()
        self._leave()
        if self.is_stream:
            return
        self._buffer = memoryview(bytearray(READ_BYTES_MAX))
        if self.channel == wire.DATA and self.links.make_pipe:
            self.pipe = self.links.make_pipe(self)
            self.by_tcp(wire.PipeAddress(self.pipe.address))
        else:
            self._up()

    # ---- a new link takes this one's place --------------------------------------------------------
    def _hello_again(self) -> None:
        if not (self.dialled and self.secure and self.greeted):
            raise WireError("a second Hello")
        self.stale = True

    def ask_to_renew(self) -> None:
        """We have accepted this link, so the other member is the one to dial a new one."""
        self.greeting.say_hello(self.channel)

    def finish(self) -> None:
        """Nothing is sent by this link any more."""
        if isinstance(self.transport, SecureTransport):
            self.transport.finish()
        else:
            self.transport.write_eof()

    def eof_received(self) -> bool:
        """The other end sends no more. May it still receive? It may, if a new link is about to take this one's place."""
        self.ended = self.greeted and not self._decoder.waiting
        if self.ended and self.succession:
            self.succession.ended()
        elif self.ended and (self.secure or self._is_renewed()):
            self.links.loop.call_later(S_MAX, self._not_succeeded)
            return True
        return False

    def _is_renewed(self) -> bool:
        """Is another link about to take this one's place? An end without TLS tells no more than that."""
        return any((link.member, link.channel) == (self.member, self.channel) for link in self.links.renewing)

    def _not_succeeded(self) -> None:
        if self.succession is None:
            self.transport.abort()

    def heard_late(self, messages: list[wire.Message]) -> None:
        """They have waited for the end of the link before this one."""
        try:
            for message in messages:
                if not self.transport.is_closing():
                    self.links.on_message(self.member, self.channel, message)
        except (WireError, RdmaError) as error:
            self.refuse(error)

    def _up(self) -> None:
        self._settle()
        self.links.link_up(self)

    def _settle(self) -> None:
        self.links.renewing.discard(self)
        if not self.settled.done():
            self.settled.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()
        self._settle()
        if self.succession:
            self.succession.lost(self)
        if self.pipe:
            self.pipe.close()
        if not self.greeted and self.dialled and not self._refused:
            self.links.not_greeted(self)
        self.links.link_down(self)
