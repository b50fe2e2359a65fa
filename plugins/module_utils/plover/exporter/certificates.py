# SPDX-License-Identifier: GPL-3.0-or-later
"""TLS of the exporter: a folder with its own key and certificate, read again when a file changes.

The certificate comes from a group's CA, like those of the members. But the exporter's names no member, and its key is not a
member's: whoever takes over the exporter cannot speak on the members' links.
"""

from __future__ import annotations

import logging
import ssl
from pathlib import Path

from ..errors import ConfigError
from .settings import REQUIRED, Settings

log = logging.getLogger("plover")
CA, CERTIFICATE, KEY = "ca.pem", "cert.pem", "key.pem"
Stats = tuple[tuple[int, int, int], ...]


class Certificates:
    def __init__(self, settings: Settings) -> None:
        self._folder, self._clients = Path(settings.tls_folder), settings.client_certificates == REQUIRED
        self._names = (CERTIFICATE, KEY, CA) if self._clients else (CERTIFICATE, KEY)
        self._known: tuple[Stats, ssl.SSLContext] | None = None

    def context(self) -> ssl.SSLContext:
        """For a new connection. Files that cannot be used any more leave the last good ones in force. Raises ConfigError if none were."""
        try:
            stats = self._stats()
            if self._known is None or stats != self._known[0]:
                self._known = stats, self._load()
        except ConfigError as error:
            if self._known is None:
                raise
            log.error("%s; the files from before are still in use", error)
            self._known = (stats if not isinstance(error, _MissingError) else (), self._known[1])
        return self._known[1]

    def _stats(self) -> Stats:
        try:
            found = [(self._folder / name).stat() for name in self._names]
        except OSError as error:
            wanted = " and ".join(self._names)
            raise _MissingError(
                f"tls_folder: {error.filename}: {error.strerror}; run the play with role monitoring, or put {wanted} there"
            ) from error
        return tuple((one.st_ino, one.st_size, one.st_mtime_ns) for one in found)

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(self._folder / CERTIFICATE, self._folder / KEY, lambda: b"")  # a passphrase is not asked for
            if self._clients:
                context.load_verify_locations(self._folder / CA)
                context.verify_mode = ssl.CERT_REQUIRED
        except (OSError, ValueError) as error:  # SSLError is an OSError
            raise ConfigError(f"tls_folder: {self._folder}: {' and '.join(self._names)} cannot be used ({error})") from error
        return context


class _MissingError(ConfigError):
    """A file is not there."""
