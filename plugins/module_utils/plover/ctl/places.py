# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the exporters of other hosts listen, as they are named on the command line. Pure."""

from __future__ import annotations

from argparse import ArgumentTypeError
from typing import NamedTuple
from urllib.parse import urlsplit

PORT = 9742  # the exporter's default
TLS_FOLDER = "/etc/plover-exporter/tls"


class Place(NamedTuple):
    """Where an exporter listens. ``shown``: the host in the table."""

    shown: str
    host: str
    port: int
    secure: bool


def place(given: str) -> Place:
    """Of HOST, HOST:PORT, or a URL. Raises ArgumentTypeError."""
    try:
        parts = urlsplit(given if "://" in given else f"https://{given}")
        host, port = parts.hostname or "", parts.port or PORT
    except ValueError as error:
        raise ArgumentTypeError(f"{given!r} is no host ({error})") from error
    if not host or parts.scheme not in ("http", "https") or parts.path not in ("", "/") or parts.query or parts.username:
        raise ArgumentTypeError(f"{given!r} is no host; write HOST, HOST:PORT, https://HOST:PORT or http://127.0.0.1:PORT")
    return Place(host if port == PORT else f"{host}:{port}", host, port, parts.scheme == "https")
