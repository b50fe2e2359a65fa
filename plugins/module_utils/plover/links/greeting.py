# SPDX-License-Identifier: GPL-3.0-or-later
"""How a connection begins, until its messages count.

With ``link_security: tls`` it begins with a TLS handshake, in which each side shows its certificate (secure.py, tls.py). Then
comes a Hello from each side (hello.py). Then both prove that they know the VM's secret (auth.py), if they have one.
"""

from __future__ import annotations

import asyncio
import weakref
from typing import Any, Protocol, cast

from ..config.settings import Config
from ..config.timing import Timing
from ..errors import ConfigError, PloverError, WireError
from ..protocol import wire
from . import auth, hello, secure, tls
from .secure_transport import SecureTransport


class Owner(Protocol):
    """All links of a member (peers.py), as a greeting sees them."""

    config: Config
    tls: tls.Folder | None
    renewing: set[Any]

    def secrets(self) -> auth.Secrets: ...

    def renewable(self, member: str, channel: int) -> bool: ...

    def is_up(self, member: str, channel: int) -> bool: ...


class Begun(Protocol):
    """A link (link.py) before its messages count."""

    dialled: tuple[str, int] | None
    transport: asyncio.Transport
    member: str
    channel: int
    timing: Timing | None
    channels: frozenset[int]
    knows: frozenset[str]
    secure: secure.Secure | None
    own_serial: int
    renews: bool

    @property
    def links(self) -> Owner: ...

    def by_tcp(self, message: wire.Message) -> None: ...

    def established(self) -> None: ...

    def refuse(self, error: PloverError) -> None: ...


class Greeting:
    """Of one link. What it finds out, it writes down there: who the other member is, its channel, timing and TLS."""

    def __init__(self, link: Begun) -> None:
        """Raises ConfigError if this member's secret cannot be read."""
        self._to_link = weakref.ref(link)  # it has us: no cycle, so that its buffers are freed when it is lost
        self._config = link.links.config
        self.session = auth.Session(link.links.secrets(), self._config.member)
        self._hello = b""  # ours
        self._begun = False

    @property
    def _link(self) -> Begun:
        link = self._to_link()
        if link is None:
            raise ReferenceError("a greeting without its link")
        return link

    # ---- TLS or not -------------------------------------------------------------------------------
    def dial(self, channel: int) -> None:
        """We have dialled. Raises ConfigError, WireError."""
        folder = self._link.links.tls
        if folder and (found := folder.read()).dials():
            self._encrypt(folder.secure(found, True), found)
        else:
            self.say_hello(channel)

    def takes(self, data: memoryview) -> bool:
        """Do these bytes, the first ones, begin TLS? Then they are taken. Raises WireError."""
        if self._begun:
            return False
        self._begun = True
        try:
            return not self._link.dialled and self._answer(data)
        except ConfigError as error:
            raise WireError(str(error)) from error

    def _answer(self, data: memoryview) -> bool:
        """The other end has dialled, and its first byte tells whether it speaks TLS, which is then begun. Raises ConfigError, WireError."""
        first = data[0]
        folder = self._link.links.tls
        if folder is None:
            if first == secure.HANDSHAKE:
                raise WireError("it speaks TLS, but here 'link_security' is none; run the deploy play, or write 'accept' into mode there")
            return False
        found = folder.read()
        if first == secure.HANDSHAKE:
            self._encrypt(folder.secure(found, False), found, data)
            return True
        if not found.accepts_plain():
            raise WireError(
                "it does not speak TLS, and here only TLS is accepted; set link_security: tls there, or write 'dial' into "
                f"{folder.path}/{tls.MODE} until then"
            )
        return False

    def _encrypt(self, ours: secure.Secure, found: tls.Credentials, data: memoryview | None = None) -> None:
        """From now on; ``data`` has come already."""
        link = self._link
        link.secure, link.own_serial = ours, found.own.serial
        link.transport = encrypting = SecureTransport(link.transport, ours, cast(asyncio.BufferedProtocol, link), self._shaken, link.refuse)
        encrypting.begin(data or b"")

    def _shaken(self) -> None:
        """The TLS handshake is over. Raises WireError."""
        link = self._link
        peer = link.secure and link.secure.peer
        if link.dialled and peer:
            if peer.member != link.dialled[0]:
                raise WireError(f"its certificate is of {peer.member}; check 'members', and give each member its own")
            self.say_hello(link.dialled[1])

    # ---- Hello, then proof ------------------------------------------------------------------------
    def say_hello(self, channel: int) -> None:
        ours = hello.of(self._config, channel, self.session.nonce, self._link.renews)
        self._hello = ours.payload
        self._link.by_tcp(ours)

    def hear_hello(self, message: wire.Message) -> None:
        """The first message. Raises WireError."""
        link = self._link
        if not isinstance(message, wire.Hello):
            raise WireError(f"{type(message).__name__} before Hello")
        told = hello.check(self._config, message, link.dialled)
        if link.secure and link.secure.peer and link.secure.peer.member != told.member:
            raise WireError(f"Hello of {told.member} with the certificate of {link.secure.peer.member}; give each member its own")
        link.member, link.channel, link.timing, link.channels = told.member, told.channel, told.timing, told.channels
        link.knows = told.knows
        self._agree_to_renew(told.renews)
        if not link.dialled:
            self.say_hello(link.channel)
        theirs = bytes(message.payload)
        hellos = (self._hello, theirs) if link.dialled else (theirs, self._hello)
        proof = self.session.greeted(link.member, told.nonce, *hellos)
        if proof:
            link.by_tcp(wire.Proof(proof))
        else:
            link.established()

    def hear_proof(self, message: wire.Message) -> None:
        """The second message, where a proof is needed. Raises WireError."""
        if not isinstance(message, wire.Proof):
            raise WireError(f"{type(message).__name__} before a proof")
        self.session.verify(message.payload)
        self._link.established()

    def _agree_to_renew(self, told: bool) -> None:
        """Both do it, or neither. Raises WireError rather than cut a link that is up."""
        link = self._link
        agreed = told and (link.renews if link.dialled else link.links.renewable(link.member, link.channel))
        if (told or link.renews) and not agreed and link.links.is_up(link.member, link.channel):
            raise WireError("the link that is up cannot be renewed at this moment; the next attempt follows")
        link.renews = agreed
        if agreed:
            link.links.renewing.add(link)
