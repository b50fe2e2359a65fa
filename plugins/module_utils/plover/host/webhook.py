# SPDX-License-Identifier: GPL-3.0-or-later
"""The adapter of on_event_url: one POST request, bounded. Everything here blocks; a thread calls it.

Certificates are verified by the host's CAs. No proxy is used, no redirect is followed, and of the answer only its first line is read.
All steps together have one deadline, but for the name's look-up, which the C library bounds.
"""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import time
from urllib.parse import urlsplit

from .. import __version__
from .hook_command import Failure

LINE_BYTES_MAX = 1024
AGAIN = (408, 429)  # and all from 500 on: the other end may answer otherwise later
_HEADERS = {"Content-Type": "application/json", "User-Agent": f"plover/{__version__}", "Connection": "close"}
_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5]\d\d)\b")


def post(url: str, text: bytes, timeout_s: float) -> Failure | None:
    """None if the answer's status is 2xx."""
    host = place(url)
    try:
        status = _ask(url, text, time.monotonic() + timeout_s)
    except ssl.SSLCertVerificationError as error:
        return Failure(f"the certificate of {host} is not accepted ({error.verify_message})", again=False)
    except TimeoutError:
        return Failure(f"{host} did not answer within {timeout_s:.0f} s", again=True)
    except http.client.HTTPException:
        return Failure(f"what {host} answered is no HTTP", again=True)
    except (OSError, UnicodeError) as error:
        return Failure(f"no answer from {host} ({getattr(error, 'strerror', None) or error})", again=True)
    if 200 <= status < 300:
        return None
    if 300 <= status < 400:
        return Failure(f"{host} answered with status {status}: a redirect is not followed, give the URL that it leads to", again=False)
    return Failure(f"{host} answered with status {status}", again=status in AGAIN or status >= 500)


def place(url: str) -> str:
    """What may be shown of ``url``: its path or query may be a secret."""
    return urlsplit(url).netloc


def _ask(url: str, text: bytes, end: float) -> int:
    parts = urlsplit(url)
    secure, host = parts.scheme == "https", parts.hostname or ""
    context = ssl.create_default_context() if secure else None
    port = parts.port or (443 if secure else 80)
    sock = _connect(host, port, end)
    try:
        if context:
            sock.settimeout(_left(end))
            sock = context.wrap_socket(sock, server_hostname=host)
        connection = http.client.HTTPSConnection(host, port, context=context) if context else http.client.HTTPConnection(host, port)
        connection.sock = sock
        sock.settimeout(_left(end))
        connection.request("POST", (parts.path or "/") + (f"?{parts.query}" if parts.query else ""), text, _HEADERS)
        return _status(sock, end)
    finally:
        sock.close()


def _connect(host: str, port: int, end: float) -> socket.socket:
    """To the first address that answers; each has its share of the time."""
    error = OSError(0, "no address")
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for number, (family, kind, protocol, _name, address) in enumerate(found):
        try:
            sock = socket.socket(family, kind, protocol)  # the witness's unit forbids IPv6
        except OSError as why:
            error = why
            continue
        try:
            sock.settimeout(_left(end) / (len(found) - number))
            sock.connect(address)
            return sock
        except OSError as why:
            sock.close()
            error = why
    raise error


def _status(sock: socket.socket, end: float) -> int:
    """Of the answer's first line. http.client would read headers for as long as they come."""
    said = b""
    while b"\n" not in said and len(said) < LINE_BYTES_MAX:
        sock.settimeout(_left(end))
        more = sock.recv(LINE_BYTES_MAX)
        if not more:
            raise ConnectionResetError("it closed the connection")
        said += more
    found = _STATUS.match(said)
    if found is None:
        raise http.client.BadStatusLine("")
    return int(found[1])


def _left(end: float) -> float:
    left = end - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
