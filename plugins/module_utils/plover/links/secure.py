# SPDX-License-Identifier: GPL-3.0-or-later
"""TLS of one connection, and who is at its other end. Pure: bytes in, bytes out; secure_transport.py has the socket.

OpenSSL works on memory here, not on the socket. So sockets, limits and time-outs of a link are the same with and without TLS.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, cast

from ..errors import WireError

HANDSHAKE = 0x16  # the first byte of TLS; a plain Hello begins with codec.MAGIC
SEAL_BYTES = 256 << 10  # encrypted at a time: 16 records, so the memory between OpenSSL and us stays small
REFUSED = {
    "certificate has expired": "renew it with the deploy play; is the clock of this host right?",
    "certificate is not yet valid": "is the clock of this host right?",
}
OTHER_CA = "it is not from a CA in this host's ca.pem; run the deploy play, which gives all three members the same"


class Identity(NamedTuple):
    """Content of a certificate."""

    member: str
    serial: int
    not_after: float  # seconds since 1970


def uri(cluster_id: str, member: str) -> str:
    """The name of a member in its certificate (a URI among the alternative names)."""
    return f"plover:{cluster_id}/{member}"


def identity(certificate: dict[str, Any] | None, cluster_id: str, members: Iterable[str]) -> Identity:
    """Whose ``certificate`` (as ssl.SSLObject.getpeercert gives it) this is. Raises WireError unless it is of one of ``members``."""
    if not certificate:
        raise WireError("no certificate; run the deploy play")
    names = [name for kind, name in certificate.get("subjectAltName", ()) if kind == "URI"]
    member = next((m for m in members if names == [uri(cluster_id, m)]), None)
    if member is None:
        shown = ", ".join(names)[:200] or "nobody"
        raise WireError(f"the certificate of {shown!r}, who is no other member of cluster {cluster_id}; check 'members' and 'cluster_id'")
    return Identity(member, int(certificate["serialNumber"], 16), ssl.cert_time_to_seconds(certificate["notAfter"]))


def explain(error: ssl.SSLError) -> str:
    """One sentence, with the remedy."""
    if isinstance(error, ssl.SSLCertVerificationError):
        why = error.verify_message
        return f"its certificate is refused ({why}): {REFUSED.get(why, OTHER_CA)}"
    reason = (error.reason or str(error)).replace("_", " ").lower()
    if "alert" in reason:
        return f"it refuses our certificate or our TLS ({reason.rpartition('alert ')[2]}); its log says why, with the remedy"
    if "wrong version number" in reason:
        return "it answers without TLS; set link_security: tls there, or write 'accept' into the file 'mode' of tls_folder here until then"
    if "peer did not return a certificate" in reason:
        return "it shows no certificate; only members may connect"
    return f"no valid TLS 1.3 ({reason})"


class Secure:
    """``judge`` turns the other end's certificate into its identity, or raises WireError."""

    def __init__(self, context: ssl.SSLContext, dials: bool, judge: Callable[[dict[str, Any] | None], Identity]) -> None:
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._in, self._out, server_side=not dials)
        self._judge = judge
        self.peer: Identity | None = None  # once the handshake is over
        self.ended = False  # by the other end

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Bytes from the other end."""
        self._in.write(data)

    def handshake(self) -> bool:
        """Go on with the handshake; True once it is over. Bytes to send are in :meth:`take`, after an error too. Raises WireError."""
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError as error:
            raise WireError(explain(error)) from error
        try:
            certificate = self.tls.getpeercert()
        except ValueError as error:
            raise WireError("its certificate has a name that is no text; run the deploy play") from error
        self.peer = self._judge(certificate)
        return True

    def take(self) -> bytes:
        """Bytes for the other end."""
        return self._out.read()

    def end(self) -> None:
        """We send no more; :meth:`take` has the end mark. The other end may go on. Raises WireError."""
        try:
            self.tls.unwrap()
        except ssl.SSLWantReadError:
            pass  # the other end's own mark has not come yet
        except ssl.SSLError as error:
            raise WireError(explain(error)) from error

    def read(self, into: memoryview) -> int:
        """Put plain bytes into ``into``; how many. None: more must come first, or the other end has :attr:`ended`. Raises WireError."""
        filled = 0
        try:
            while filled < len(into) and not self.ended:
                got = cast(int, self.tls.read(len(into) - filled, into[filled:]))
                self.ended, filled = not got, filled + got
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.ended = True
        except ssl.SSLError as error:
            raise WireError(explain(error)) from error
        return filled

    def seal(self, buffers: Iterable[bytes | bytearray | memoryview]) -> Iterator[bytes]:
        """``buffers`` as bytes for the other end, in parts. Raises WireError."""
        view = memoryview(b"".join(buffers))
        try:
            for start in range(0, len(view), SEAL_BYTES):
                part = view[start : start + SEAL_BYTES]
                while len(part):
                    part = part[self.tls.write(part) :]
                yield self._out.read()
        except ssl.SSLError as error:
            raise WireError(explain(error)) from error
