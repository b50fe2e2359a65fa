# SPDX-License-Identifier: GPL-3.0-or-later
"""The folder of link_security tls: this member's key and certificate, whom it trusts, and what it accepts.

``ca.pem`` has one or more certificates of CAs, each is trusted: so a CA is replaced in rounds over the members, as a secret is.
``cert.pem`` and ``key.pem`` are this member's own. ``revoked`` (optional) has the serial numbers, in hexadecimal, of
certificates that are refused. ``mode`` (optional) says what a link may be while a group changes over to TLS:

    accept   both kinds are accepted, and this member dials without TLS
    dial     both kinds are accepted, and this member dials by TLS
    only     TLS only; also if there is no such file

All are read again for each link, so nothing has to be restarted. Nothing of that costs much while no file changes.
"""

from __future__ import annotations

import os
import re
import ssl
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Optional

from ..errors import ConfigError, WireError
from .secure import Identity, Secure, identity

CA, CERTIFICATE, KEY, REVOKED, MODE = FILES = ("ca.pem", "cert.pem", "key.pem", "revoked", "mode")
OPTIONAL = (REVOKED, MODE)
ACCEPT, DIAL, ONLY = MODES = ("accept", "dial", "only")
FILE_BYTES_MAX = 64 << 10
FLIGHTS_MAX = 8  # of the handshake with ourselves
_SERIAL = re.compile(r"[0-9A-Fa-f]{1,40}\Z")
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
wall = time.time  # certificates go by the time of day

Stats = tuple[Optional[tuple[int, ...]], ...]  # noqa: UP045 (ansible-test takes the bar for an operator)


def _stats(folder: int) -> Stats:
    """What changes when one of the files does."""
    out: list[tuple[int, ...] | None] = []
    for name in FILES:
        try:
            found = os.stat(name, dir_fd=folder, follow_symlinks=False)
            out.append((found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns))
        except OSError:
            out.append(None)
    return tuple(out)


class Credentials(NamedTuple):
    accepting: ssl.SSLContext
    dialling: ssl.SSLContext
    mode: str
    revoked: frozenset[int]
    own: Identity

    def dials(self) -> bool:
        """By TLS?"""
        return self.mode != ACCEPT

    def accepts_plain(self) -> bool:
        return self.mode != ONLY


class Folder:
    def __init__(self, path: Path, cluster_id: str, member: str, members: tuple[str, ...]) -> None:
        """``members``: all of them, ``member`` (whose folder this is) included."""
        self.path, self._cluster_id, self._member = path, cluster_id, member
        self._others = tuple(name for name in members if name != member)
        self._known: tuple[Stats, Credentials] | None = None

    def read(self) -> Credentials:
        """What the files say now. Raises ConfigError."""
        with self._opened() as folder:
            before = _stats(folder)
            if not self._known or self._known[0] != before:
                found = self._load(folder)
                if before != _stats(folder):
                    raise ConfigError(f"{self.path}: is being changed right now; the next link reads it again")
                self._known = before, found
        found = self._known[1]
        if found.own.not_after <= wall():
            raise ConfigError(f"{self.path}/{CERTIFICATE}: has expired; renew it with the deploy play; is the clock of this host right?")
        return found

    def secure(self, found: Credentials, dials: bool) -> Secure:
        """TLS for a new connection."""

        def judge(certificate: dict[str, Any] | None) -> Identity:
            peer = identity(certificate, self._cluster_id, self._others)
            if peer.serial in found.revoked:
                raise WireError(f"the certificate of {peer.member} ({peer.serial:x}) is in {self.path}/{REVOKED}; give it a new one")
            return peer

        return Secure(found.dialling if dials else found.accepting, dials, judge)

    @contextmanager
    def _opened(self) -> Iterator[int]:
        try:
            folder = os.open(self.path, _OPEN | os.O_DIRECTORY)
        except OSError as error:
            raise ConfigError(f"tls_folder: {self.path}: {error.strerror}; run the deploy play, or set link_security: none") from error
        try:
            self._check_owner(os.fstat(folder), self.path, 0o077)
            yield folder
        finally:
            os.close(folder)

    @staticmethod
    def _check_owner(found: os.stat_result, path: Path, forbidden: int) -> None:
        if found.st_uid not in (0, os.geteuid()):
            raise ConfigError(f"{path}: belongs to user {found.st_uid}; run 'chown root {path}' if you trust what is in it")
        if stat.S_IMODE(found.st_mode) & forbidden:
            raise ConfigError(f"{path}: is open to others than its owner; run 'chmod go= {path}'")

    def _read(self, folder: int, name: str) -> str:
        """Contents of a file; nothing if it is missing and may be."""
        path = self.path / name
        try:
            with open(os.open(name, _OPEN, dir_fd=folder), "rb") as file:
                found = os.fstat(file.fileno())
                if not stat.S_ISREG(found.st_mode):
                    raise ConfigError(f"{path}: is no file; run the deploy play")
                self._check_owner(found, path, 0o077 if name == KEY else 0o022)
                text = file.read(FILE_BYTES_MAX + 1)
        except FileNotFoundError:
            if name in OPTIONAL:
                return ""
            raise ConfigError(f"{path}: is missing; run the deploy play, or set link_security: none") from None
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read ({error.strerror}); run the deploy play") from error
        if len(text) > FILE_BYTES_MAX:
            raise ConfigError(f"{path}: is over {FILE_BYTES_MAX} bytes; run the deploy play to write it anew")
        return text.decode("ascii", "replace")

    def _load(self, folder: int) -> Credentials:
        texts = {name: self._read(folder, name) for name in FILES}
        mode = texts[MODE].strip() or ONLY
        if mode not in MODES:
            raise ConfigError(f"{self.path}/{MODE}: {mode[:40]!r} is not one of {', '.join(MODES)}")
        accepting, dialling = self._context(folder, texts[CA], False), self._context(folder, texts[CA], True)
        return Credentials(accepting, dialling, mode, self._revoked(texts[REVOKED]), self._own(accepting, dialling))

    def _revoked(self, text: str) -> frozenset[int]:
        lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
        for line in lines:
            if not _SERIAL.match(line):
                raise ConfigError(
                    f"{self.path}/{REVOKED}: {line[:40]!r} is no serial number; write hexadecimal digits, one number per line"
                )
        return frozenset(int(line, 16) for line in lines)

    def _context(self, folder: int, ca: str, dials: bool) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT if dials else ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False  # secure.identity() checks the name
        context.verify_mode = ssl.CERT_REQUIRED
        if not dials:
            context.num_tickets = 0  # no session is resumed: each link is judged anew
        try:
            context.load_verify_locations(cadata=ca)
        except (ssl.SSLError, ValueError, TypeError) as error:
            raise ConfigError(f"{self.path}/{CA}: has no valid certificates ({error}); run the deploy play") from error
        here = f"/proc/self/fd/{folder}"
        try:
            context.load_cert_chain(f"{here}/{CERTIFICATE}", f"{here}/{KEY}", lambda: b"")  # a passphrase is not asked for
        except (OSError, ValueError) as error:  # SSLError is an OSError
            raise ConfigError(
                f"{self.path}: {CERTIFICATE} and {KEY} are no certificate and its key ({error}); run the deploy play"
            ) from error
        return context

    def _own(self, accepting: ssl.SSLContext, dialling: ssl.SSLContext) -> Identity:
        """Whose certificate ours is, by greeting ourselves. So what the other members would refuse is found here, in time."""
        ends = [
            Secure(context, dials, lambda certificate: identity(certificate, self._cluster_id, (self._member,)))
            for context, dials in ((dialling, True), (accepting, False))
        ]
        try:
            for flight in range(FLIGHTS_MAX):
                one, other = ends if flight % 2 == 0 else ends[::-1]
                if not one.peer:
                    one.handshake()
                other.feed(one.take())
        except WireError as error:
            raise ConfigError(f"{self.path}/{CERTIFICATE}: the other members would refuse it: {error}") from error
        if not (ends[0].peer and ends[1].peer):
            raise ConfigError(f"{self.path}: {CERTIFICATE} cannot be used for TLS 1.3; run the deploy play")
        return ends[1].peer
