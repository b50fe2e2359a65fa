# SPDX-License-Identifier: GPL-3.0-or-later
"""sd_notify(3) without a library: one datagram."""

from __future__ import annotations

import os
import socket


def notify(text: str) -> None:
    """Tell systemd, if it started us. Never fails: systemd may be restarting."""
    path = os.environ.get("NOTIFY_SOCKET")
    if not path:
        return
    address = "\0" + path[1:] if path.startswith("@") else path
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        try:
            sock.sendto(text.encode(), address)
        except OSError:
            return
