# SPDX-License-Identifier: GPL-3.0-or-later
"""Speaks as a member, with whatever an attacker has of that member's: its settings, its secrets, its certificate."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from plover.config.settings import Config
from plover.consensus.amnesia import QUESTION
from plover.errors import WireError
from plover.links import auth, hello
from plover.protocol import codec, wire

LET_IN_S = 3.0  # a connection that has not proved itself lives shorter
LOOK_S = 0.2
GREETINGS = (wire.Hello, wire.Proof)


class Kit(NamedTuple):
    """What an attacker has. Without ``tls`` (folder with certificate and key) it speaks in the clear."""

    config: Config
    secrets: auth.Secrets
    tls: Path | None = None


def nothing(config: Config) -> Kit:
    """Of somebody who knows the settings only."""
    return Kit(config, auth.Secrets((), True))


def kit_of(config: Config, file: Callable[[str], Path]) -> Kit:
    """All that is on a member's host. ``file``: a path on that host -> the same for this machine."""
    secret = file(str(config.secret_path))
    tls = file(getattr(config, "tls_folder", "") or f"/etc/plover/{config.name}/tls")
    return Kit(config, auth.parse(secret.read_text(), str(secret)), tls if (tls / "cert.pem").exists() else None)


def as_member(config: Config, member: str) -> Config:
    return Config({**config.values, "member": member})


class Voice:
    """One connection, as ``kit.config.member``."""

    def __init__(self, sock: socket.socket, kit: Kit, channel: int) -> None:
        self._kit, self._channel, self._tag = kit, channel, codec.cluster_tag(kit.config.cluster_id)
        self._sock = _wrapped(sock, kit.tls)
        self._session = auth.Session(kit.secrets, kit.config.member)
        self._decoder = codec.Decoder(self._tag)
        self._hello = hello.of(kit.config, channel, self._session.nonce)
        self.closed = False
        self.let_in = False

    def greet(self, other: str, first: bool = True) -> None:  # first: we dialled
        """Say Hello, answer the other's, if it is one. Ends without an error whether or not that was believed."""
        if first:
            # The member whose name we use may take our place a moment later: who needs no proof must answer at once.
            at_once = [] if self._kit.secrets.known or self._channel != wire.CONTROL else [QUESTION]
            self.say(self._hello, *at_once)
        heard = [message for message in self.hear(LET_IN_S, until=wire.Hello) if isinstance(message, wire.Hello)]
        if not first:
            self.say(self._hello)
        for message in heard:
            self._prove(other, bytes(message.payload), first)

    def _prove(self, other: str, theirs: bytes, first: bool) -> None:
        ours = bytes(self._hello.payload)
        with contextlib.suppress(WireError, ValueError):
            nonce = json.loads(theirs).get("nonce")
            proof = self._session.greeted(other, nonce, *((ours, theirs) if first else (theirs, ours)))
            if proof:
                self.say(wire.Proof(proof))

    def say(self, *messages: wire.Message) -> None:
        self.replay(b"".join(bytes(part) for message in messages for part in codec.encode(message, self._tag)))

    def replay(self, words: bytes) -> None:
        """What somebody else said once."""
        try:
            self._sock.sendall(words)
        except OSError:
            self.closed = True

    def hear(self, seconds: float, until: type[wire.Message] | None = None) -> list[wire.Message]:
        """What it says within ``seconds``, or until a message of that kind. A message that is no greeting means: we are let in."""
        out: list[wire.Message] = []
        end = time.monotonic() + seconds
        while not self.closed and time.monotonic() < end:
            self._sock.settimeout(LOOK_S)
            try:
                data = self._sock.recv(1 << 18)
            except (TimeoutError, ssl.SSLWantReadError):
                continue
            except OSError:
                data = b""
            self.closed = not data
            with contextlib.suppress(WireError):
                out += self._decoder.feed(data)
            self.let_in = self.let_in or any(not isinstance(message, GREETINGS) for message in out)
            if until and any(isinstance(message, until) for message in out):
                break
        return out

    def is_let_in(self) -> bool:
        """It hears us still, longer than anybody who has not proved itself, or tells us something."""
        if not self.let_in and not self.closed:
            self.hear(LET_IN_S)
        return self.let_in or not self.closed

    def close(self) -> None:
        self._sock.close()

    def __enter__(self) -> Voice:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _wrapped(sock: socket.socket, tls: Path | None) -> socket.socket:
    """Raises OSError (ssl.SSLError is one) if the other end does not accept the certificate."""
    if tls is None:
        return sock
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # an attacker does not mind whom it speaks to
    context.load_cert_chain(tls / "cert.pem", tls / "key.pem")
    try:
        return context.wrap_socket(sock)
    except (OSError, ValueError) as error:
        sock.close()
        raise OSError(f"TLS: {error}") from error


def ways(kit: Kit) -> list[Kit]:
    """With the certificate, then in the clear: an attacker tries both."""
    return [kit, kit._replace(tls=None)] if kit.tls else [kit]


def later_views(view: int) -> list[wire.Message]:
    """What a voter may say once it has voted in a later view: no lie that can be known. Each of them once deposed a leader."""
    return [
        wire.HeartbeatAck(view + 1, 1, 0, 0, 0),
        wire.AppendAck(view + 1, 0, False),
        wire.VoteReply(view + 1, True, False, False, 0, 0),
        wire.VoteReply(view + 1, True, True, False, 0, 0),
        wire.VoteReply(view + 1000, False, False, False, 0, 0),
    ]


def lies(view: int, now: int | None = None) -> list[wire.Message]:
    """Each of them once made a replica end itself, its VM or its group, or believe a liar. ``now``: the view that the group is in, if
    that is not ``view``: an answer of a later view is no lie that can be known.
    """
    now = view if now is None else now
    return [
        wire.Heartbeat(view + 1, 1, 0, view, 99, 1),  # the 57 bytes
        wire.Heartbeat(view, 1, 0, view, 99, 2),
        wire.Heartbeat(2**64 - 1, 1, 0, 0, 0, 0),
        wire.Append(view + 1, 0, 0, True),
        wire.ProposeRecord(view + 1, view + 1, 1, 4),
        wire.VoteRequest(view + 1, False, True, view, 99, 7, 2**63, 2**63),
        wire.VoteReply(2**64 - 1, True, False, False, 0, 0),
        wire.HeartbeatAck(2**64 - 1, 1, 0, 0, 0),
        wire.HeartbeatAck(now, 2**50, 0, 1, 99),
        wire.AppendAck(now, 2**50, True),
        wire.TransferLeadership(view),
        wire.Leave(view, b"gone"),
        wire.JoinRequest(view, b"{}"),
    ]
