# SPDX-License-Identifier: GPL-3.0-or-later
"""What anybody who reaches the port can send: the greeting of a connection, with the proof of a secret. And the secret's file."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

from plover.errors import ConfigError, WireError
from plover.links import auth, hello, link, tls
from plover.protocol import codec, wire

from ..target import Target, check_text, promise
from . import group

NONCE = "0" * 32
OURS, THEIRS = group.config("primary"), group.config("secondary")


# ---- one message of the greeting --------------------------------------------------------------------------------
def greeting(data: bytes) -> None:
    told = hello.check(OURS, wire.Hello(data), None)
    promise(told.member in OURS.members and told.channel in (wire.CONTROL, *hello.BETWEEN_REPLICAS), "a member that is none")
    session = auth.Session(auth.Secrets((group.SECRET.encode(),), False), OURS.member)
    proof = session.greeted(told.member, told.nonce, data, b"ours")
    promise(proof, "let in without a proof")
    session.verify(data)


def _greetings() -> Iterator[tuple[str, bytes]]:
    yield "control", hello.of(THEIRS, wire.CONTROL, NONCE).payload
    yield "data", hello.of(THEIRS, wire.DATA, NONCE).payload
    yield "no-secret", hello.of(THEIRS, wire.CONTROL).payload
    yield "old", json.dumps({"cluster_id": OURS.cluster_id, "member": "witness", "channel": 0, "version": "0.1.0"}).encode()


# ---- a whole connection -------------------------------------------------------------------------------------------
class Transport:
    """The socket of a connection."""

    def __init__(self) -> None:
        self.closed = False
        self.sent = 0

    def get_extra_info(self, name: str, _default: object = None) -> Any:
        return self if name == "socket" else ("192.0.2.1", 1)

    def setsockopt(self, *_option: object) -> None: ...

    def set_write_buffer_limits(self, high: int) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self.closed

    def writelines(self, buffers: Iterator[bytes]) -> None:
        self.sent += sum(map(len, buffers))

    def abort(self) -> None:
        self.closed = True


class Links:
    """All links of a member, as one link sees them."""

    config, tag, make_pipe, patience = OURS, group.TAG, None, 1.0

    def __init__(self, secret: str, folder: tls.Folder | None = None) -> None:
        self.tls = folder
        self.loop = asyncio.new_event_loop()
        self._secret = secret
        self.heard: list[wire.Message] = []
        self.up: list[link.Link] = []
        self.renewing: set[link.Link] = set()

    def secrets(self) -> auth.Secrets:
        return auth.Secrets((self._secret.encode(),) if self._secret else (), not self._secret)

    def enter(self, address: str) -> bool:
        return True

    def leave(self, address: str) -> None: ...

    def refused(self, member: str, why: str) -> None:
        check_text(why, lines=False)

    def on_message(self, member: str, channel: int, message: wire.Message) -> None:
        promise(self.up, "a message before the greeting is over")
        self.heard.append(message)

    def on_writable(self) -> None: ...

    def link_up(self, up: link.Link) -> None:
        self.up.append(up)

    def stream_up(self, up: link.Link, rest: bytes) -> None:
        self.up.append(up)

    def link_down(self, down: link.Link) -> None: ...

    def not_greeted(self, ended: link.Link) -> None: ...

    def renewable(self, member: str, channel: int) -> bool:
        return False

    def is_up(self, member: str, channel: int) -> bool:
        return False


def connection(data: bytes) -> None:
    """A connection's bytes, read in pieces as large as its buffer. The first one says whether this host has a secret."""
    links = Links(group.SECRET if data[:1] == b"s" else "")
    try:
        under_test = link.Link(links, None)
        transport = Transport()
        under_test.connection_made(transport)
        rest = memoryview(data)[1:]
        while rest and not transport.closed:
            buffer = under_test.get_buffer(-1)
            size = min(len(buffer), len(rest))
            buffer[:size] = rest[:size]
            under_test.buffer_updated(size)
            rest = rest[size:]
        promise(under_test.greeted == bool(links.up) or transport.closed, "let in without being told")
        promise(not (links.up and data[:1] == b"s"), "let in without a proof")
        promise(under_test.greeted or under_test._decoder.waiting <= link.GREETING_BYTES_MAX or transport.closed, "unbounded")
        under_test.connection_lost(None)
    finally:
        links.loop.close()


def _connections() -> Iterator[tuple[str, bytes]]:
    for name, payload in _greetings():
        first = codec.encode(wire.Hello(payload), group.TAG)
        for secret in (b"s", b"o"):
            then = (
                codec.encode(wire.Proof(b"x" * 32), group.TAG)
                if secret == b"s"
                else codec.encode(wire.Heartbeat(1, 1, 0, 1, 2, 3), group.TAG)
            )
            yield f"{name}-{secret.decode()}", secret + b"".join(map(bytes, [*first, *then]))


# ---- the secret's file ----------------------------------------------------------------------------------------------
def secrets(data: bytes) -> None:
    path = group.FOLDER / "secret"
    path.write_bytes(data)
    path.chmod(0o600)
    found = auth.read(path)
    promise(len(found.known) <= auth.SECRETS_MAX and (found.known or found.is_open), "no secret, or too many")


def _secrets() -> Iterator[tuple[str, bytes]]:
    yield "one", f"{group.SECRET}\n".encode()
    yield "rotation", f"# new\n{group.SECRET}\n{group.SECRET[::-1]}\nopen\n".encode()


TARGETS = [
    Target("greeting", greeting, (WireError,), _greetings, is_json=True),
    Target("connection", connection, (), _connections),
    Target("secrets", secrets, (ConfigError,), _secrets),
]
