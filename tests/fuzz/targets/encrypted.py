# SPDX-License-Identifier: GPL-3.0-or-later
"""What anybody who reaches the port can send to a link with TLS, and what can be in the files of its certificates.

The other end is a real one, so its bytes get as far as they would; between its flights, or in their place, come bytes of chance.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

from cryptography import x509
from plover.errors import ConfigError, WireError
from plover.links import hello, link, security, tls
from plover.links.secure import Identity, Secure
from plover.protocol import codec, wire

from lab.pki import Authority

from ..target import Target, promise
from . import group
from .links import OURS, THEIRS, Links, Transport

PENDING_BYTES_MAX = 64 << 10  # with OpenSSL: a record or two, and what was read at once
STEPS_MAX = 64
DIALS, OPEN, STRANGER, NAMELESS = 1, 2, 4, 8  # bits of an input's first byte
ON, BENT, RAW, SEALED, END = b"hbrse"  # steps: the other end goes on · with one byte changed · bytes of chance · within TLS · end mark
MEMBERS = tuple(OURS.members)


@functools.cache
def _authority() -> Authority:
    return Authority(OURS.cluster_id)


@functools.cache
def _folder(member: str, stranger: bool = False) -> tls.Folder:
    """The files of a member; those of a stranger are by a CA of its own."""
    path = group.FOLDER / f"tls-{member}-{stranger}"
    (Authority(OURS.cluster_id) if stranger else _authority()).give(path, member, ca=_authority().pem if stranger else "")
    return tls.Folder(path, OURS.cluster_id, member, MEMBERS)


class _Raw(Transport):
    """The socket below TLS."""

    def __init__(self) -> None:
        super().__init__()
        self.protocol: Any = None
        self.out = bytearray()

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def write(self, data: bytes) -> None:
        self.out += data

    def writelines(self, buffers: Iterator[bytes]) -> None:
        self.out += b"".join(buffers)

    def close(self) -> None:
        self.closed = True

    def get(self, data: bytes | memoryview) -> None:
        """Bytes from the network, in pieces as large as the buffer of whoever reads them."""
        rest = memoryview(data)
        while rest and not self.closed:
            buffer = memoryview(self.protocol.get_buffer(-1))
            size = min(len(buffer), len(rest))
            buffer[:size] = rest[:size]
            self.protocol.buffer_updated(size)
            rest = rest[size:]


class _Other:
    """The other end: TLS that keeps to the rules, with its own certificate, a stranger's or none."""

    def __init__(self, dials: bool, kind: int) -> None:
        if kind & NAMELESS:
            context = tls.ssl.SSLContext(tls.ssl.PROTOCOL_TLS_CLIENT if dials else tls.ssl.PROTOCOL_TLS_SERVER)
            context.check_hostname, context.verify_mode = False, tls.ssl.CERT_NONE
        else:
            folder = _folder("secondary", bool(kind & STRANGER))
            found = _stranger(folder) if kind & STRANGER else folder.read()
            context = found.dialling if dials else found.accepting
        self.tls = Secure(context, dials, lambda _certificate: Identity("primary", 1, 0.0))

    def goes_on(self, raw: _Raw) -> bytes:
        self.tls.feed(bytes(raw.out))
        raw.out.clear()
        try:
            if not self.tls.peer:
                self.tls.handshake()
        except WireError:
            pass  # it was refused, and has its say about that
        return self.tls.take()

    def seals(self, data: bytes) -> bytes:
        try:
            return b"".join(self.tls.seal([data])) if self.tls.peer else b""
        except WireError:
            return b""

    def ends(self) -> bytes:
        try:
            self.tls.end()
        except WireError:
            pass
        return self.tls.take()


@functools.cache
def _stranger_contexts(path: str) -> Any:
    out = []
    for protocol in (tls.ssl.PROTOCOL_TLS_SERVER, tls.ssl.PROTOCOL_TLS_CLIENT):
        context = tls.ssl.SSLContext(protocol)
        context.check_hostname, context.verify_mode = False, tls.ssl.CERT_NONE
        context.load_cert_chain(f"{path}/cert.pem", f"{path}/key.pem")
        out.append(context)
    return tls.Credentials(*out, "only", frozenset(), Identity("secondary", 1, 0.0))


def _stranger(folder: tls.Folder) -> tls.Credentials:
    return _stranger_contexts(str(folder.path))


def steps(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(kind, bytes): a byte, a length of two bytes, as many bytes."""
    for _step in range(STEPS_MAX):
        if not data:
            return
        size = int.from_bytes(data[1:3], "big")
        yield data[0], data[3 : 3 + size]
        data = data[3 + size :]


def encrypted(data: bytes) -> None:
    kind = data[0] if data else 0
    links = Links("" if kind & OPEN else group.SECRET, _folder("primary"))
    try:
        raw, other = _Raw(), _Other(not kind & DIALS, kind)
        under_test = link.Link(links, ("secondary", wire.CONTROL) if kind & DIALS else None)
        raw.protocol = under_test
        under_test.connection_made(raw)
        for step, rest in steps(data[1:]):
            _send(raw, other, step, rest)
            _check(under_test, links, kind)
            if raw.closed or under_test.is_stream:
                break
        raw.protocol.connection_lost(None)
    finally:
        links.loop.close()


def _send(raw: _Raw, other: _Other, step: int, rest: bytes) -> None:
    if step == RAW:
        raw.get(rest)
    elif step == SEALED:
        raw.get(other.seals(rest))
    elif step == END:
        raw.get(other.ends())
    else:
        flight = bytearray(other.goes_on(raw))
        if step == BENT and flight and len(rest) > 2:
            flight[int.from_bytes(rest[:2], "big") % len(flight)] ^= rest[2]
        raw.get(flight)


def _check(under_test: link.Link, links: Links, kind: int) -> None:
    peer = under_test.secure and under_test.secure.peer
    promise(peer or not (under_test.member or links.up or links.heard), "taken before the certificate")
    promise(not (peer and kind & (STRANGER | NAMELESS)), "a stranger's certificate taken")
    promise(not under_test.member or under_test.member == peer.member == "secondary", "a name that is not the certificate's")
    promise(not links.up or kind & OPEN, "let in without a proof")
    if under_test.secure:
        for memory in (under_test.secure._in, under_test.secure._out):
            promise(memory.pending <= PENDING_BYTES_MAX, "unbounded")


def _step(kind: int, data: bytes = b"") -> bytes:
    return bytes([kind]) + len(data).to_bytes(2, "big") + data


def _conversations() -> Iterator[tuple[str, bytes]]:
    shake = _step(ON) * 4
    first = b"".join(map(bytes, codec.encode(hello.of(THEIRS, wire.CONTROL, "0" * 32), group.TAG)))
    disks = b"".join(map(bytes, codec.encode(hello.of(THEIRS, wire.DISKS, "0" * 32), group.TAG)))
    beat = b"".join(map(bytes, codec.encode(wire.Heartbeat(1, 1, 0, 1, 2, 3), group.TAG)))
    for name, kind in (("accepts", 0), ("dials", DIALS)):
        yield f"{name}-proof", bytes([kind]) + shake + _step(SEALED, first)
        yield f"{name}-open", bytes([kind | OPEN]) + shake + _step(SEALED, first + beat) + _step(SEALED, beat) + _step(END)
        yield f"{name}-stranger", bytes([kind | STRANGER]) + shake + _step(SEALED, first)
        yield f"{name}-nameless", bytes([kind | NAMELESS]) + shake + _step(SEALED, first)
        yield f"{name}-bent", bytes([kind]) + _step(ON) + _step(BENT, b"\x00\x40\x01") + _step(ON)
        yield f"{name}-broken-later", bytes([kind | OPEN]) + shake + _step(SEALED, first) + _step(RAW, b"\x17\x03\x03\x00\x20" + bytes(32))
        yield f"{name}-in-between", bytes([kind]) + _step(ON) + _step(RAW, b"\x16\x03\x03\x00\x04abcd") + shake
    yield "stream", bytes([OPEN]) + shake + _step(SEALED, disks + b"bytes of a disk")
    yield "plain", bytes([OPEN]) + _step(RAW, first)
    yield "client-hello", bytes([0]) + _step(RAW, _Other(True, 0).goes_on(_Raw())) + shake


# ---- the files ------------------------------------------------------------------------------------------------------
class _Watched:
    """All links of a member that has none."""

    links: dict[tuple[str, int], link.Link] = {}
    watch = None

    def __init__(self, folder: tls.Folder) -> None:
        self.tls = folder


def files(data: bytes) -> None:
    """ca.pem, cert.pem, key.pem, revoked and mode, each ended by a zero byte. An empty one is missing."""
    path = group.FOLDER / "tls-files"
    path.mkdir(mode=0o700, exist_ok=True)
    for name, text in zip(tls.FILES, [*data.split(b"\0"), *[b""] * len(tls.FILES)]):
        (path / name).unlink(missing_ok=True)
        if text:
            put_bytes(path / name, text)
    folder = tls.Folder(path, OURS.cluster_id, "primary", MEMBERS)
    watched = _Watched(folder)
    security.describe(watched)
    security.Watch(watched, folder).look()
    found = folder.read()
    promise(found.own.member == "primary" and found.mode in tls.MODES, "files of another member")
    promise(all(serial >= 0 for serial in found.revoked), "a serial number that no certificate has")


def put_bytes(path: Any, data: bytes) -> None:
    path.touch(0o600)
    path.write_bytes(data)


class _Odd(Authority):
    """A CA whose certificates have a name that is no text."""

    def _builder(self, *arguments: Any) -> x509.CertificateBuilder:
        names = x509.UnrecognizedExtension(x509.oid.ExtensionOID.SUBJECT_ALTERNATIVE_NAME, b"\x30\x03\x86\x01\xff")
        return super()._builder(*arguments).add_extension(names, False)


def _files() -> Iterator[tuple[str, bytes]]:
    ca, odd, uri = _authority(), _Odd(OURS.cluster_id), f"plover:{OURS.cluster_id}/"

    def of(ca_pem: str, issued: tuple[str, str, int], revoked: str = "", mode: str = "") -> bytes:
        return b"\0".join(text.encode() for text in (ca_pem, *issued[:2], revoked, mode))

    good = ca.issue(f"{uri}primary")
    yield "good", of(ca.pem, good)
    yield "all", of(ca.pem + Authority(OURS.cluster_id).pem, good, f"# comment\n{good[2]:x}\nABC\n", "accept\n")
    yield "other-member", of(ca.pem, ca.issue(f"{uri}witness"))
    yield "two-names", of(ca.pem, ca.issue(f"{uri}primary", f"{uri}witness"))
    yield "no-name", of(ca.pem, ca.issue())
    yield "other-key", of(ca.pem, (good[0], ca.issue()[1], 0))
    yield "other-ca", of(Authority(OURS.cluster_id).pem, good)
    yield "odd-name", of(odd.pem, odd.issue())
    yield "none", b""


TARGETS = [
    Target("tls", encrypted, (), _conversations),
    Target("tls_files", files, (ConfigError,), _files),
]
