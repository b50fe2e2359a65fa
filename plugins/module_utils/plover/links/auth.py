# SPDX-License-Identifier: GPL-3.0-or-later
"""Authentication of a link: both sides prove that they know the VM's secret before any other message counts.

Each Hello carries a nonce. A proof is the HMAC-SHA256 of the prover's name and both Hellos, the dialler's first. So it is
worthless on another link, for another channel or in the other direction. Links are not encrypted and later messages carry no
proof. This keeps strangers out, but not an attacker who can change traffic on the replication network.

The file has one secret per line. The first one is used to prove; each one is accepted. So a secret is changed in three
rounds over the members (add the new one, put it first, remove the old one), and no link ever fails. The line ``open`` lets in
members without a proof, for the time until all members have a secret. A file with that line alone makes a group open; nothing
else does, least of all a file that is missing. The file is read again for each link. Everything here except :func:`read`
is pure.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import stat
from pathlib import Path
from typing import NamedTuple

from ..errors import ConfigError, WireError

NONCE_BYTES = 16
FILE_BYTES_MAX, SECRETS_MAX = 4096, 8
OPEN = "open"
_SECRET = re.compile(r"[A-Za-z0-9+/=_-]{32,256}\Z")
_NONCE = re.compile(rf"[0-9a-f]{{{2 * NONCE_BYTES}}}\Z")


class Secrets(NamedTuple):
    """``known``: the first is used to prove, each is accepted. ``is_open``: members without a proof are let in, too."""

    known: tuple[bytes, ...]
    is_open: bool


def parse(text: str, where: str) -> Secrets:
    """Raises ConfigError, which never quotes a secret."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    found = [line for line in lines if line != OPEN]
    if (not found and OPEN not in lines) or len(found) > SECRETS_MAX:
        raise ConfigError(f"{where}: has {len(found)} secrets, 1 to {SECRETS_MAX} are possible; run the deploy play")
    for number, line in enumerate(found, 1):
        if not _SECRET.match(line):
            raise ConfigError(f"{where}: secret {number} must be 32 to 256 letters, digits and +/=_-; make one with 'openssl rand -hex 32'")
    return Secrets(tuple(line.encode() for line in found), OPEN in lines)


def read(path: Path) -> Secrets:
    """The secrets in ``path``. Raises ConfigError."""
    try:
        with open(path, "rb") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                raise ConfigError(f"{path}: is readable by others than its owner; run 'chmod 600 {path}'")
            text = file.read(FILE_BYTES_MAX + 1)
    except FileNotFoundError:
        raise ConfigError(
            f"secret_file: {path} is missing, and without a secret anybody could join; run the deploy play, which makes it"
        ) from None
    except OSError as error:
        raise ConfigError(f"secret_file: {path} cannot be read ({error.strerror}); run the deploy play") from error
    if len(text) > FILE_BYTES_MAX:
        raise ConfigError(f"{path}: is over {FILE_BYTES_MAX} bytes; run the deploy play to write it anew")
    return parse(text.decode("utf-8", "replace"), str(path))


class Session:
    """The proofs of one link. Its owner sends :attr:`nonce` in its Hello, then calls :meth:`greeted`."""

    def __init__(self, known: Secrets, me: str) -> None:
        self._secrets, self._me = known, me
        self._nonce = secrets.token_hex(NONCE_BYTES) if known.known else ""
        self._other, self._hellos = "", (b"", b"")
        self.proven = False

    @property
    def nonce(self) -> str:
        """For our Hello; empty if we have no secret."""
        return self._nonce

    def greeted(self, other: str, nonce: object, dialler_hello: bytes, acceptor_hello: bytes) -> bytes:
        """Called with both Hellos. Returns our proof for ``other``, or nothing if neither side has to prove anything.

        Raises WireError if ``other`` is not let in.
        """
        self._other, self._hellos = other, (dialler_hello, acceptor_hello)
        if nonce is not None and not (isinstance(nonce, str) and _NONCE.match(nonce)):
            raise WireError("malformed Hello: 'nonce' must be hexadecimal")
        if not self._nonce:
            return b""
        if nonce is None:
            if self._secrets.is_open:
                return b""
            raise WireError(
                f"{other} proves no secret, but this host demands one; run the deploy play, which gives all three members the same"
            )
        return self._proof(self._secrets.known[0], self._me)

    def verify(self, proof: bytes) -> None:
        """Raises WireError if ``proof`` is not valid, or was not asked for."""
        if not self._nonce or not self._other or self.proven:
            raise WireError("a proof that was not asked for")
        if not any(hmac.compare_digest(self._proof(secret, self._other), bytes(proof)) for secret in self._secrets.known):
            raise WireError(f"{self._other} does not know this host's secret; run the deploy play, which gives all three members the same")
        self.proven = True

    def _proof(self, secret: bytes, prover: str) -> bytes:
        digests = b"".join(hashlib.sha256(hello).digest() for hello in self._hellos)
        return hmac.digest(secret, b"plover link 1\0" + prover.encode() + b"\0" + digests, "sha256")
