# SPDX-License-Identifier: GPL-3.0-or-later
"""Sockets in another network namespace, without a process there."""

from __future__ import annotations

import ctypes
import os
import socket
import threading

CLONE_NEWNET = 0x40000000


def socket_in(netns: str) -> socket.socket:
    """A TCP socket in the namespace of that name; raises OSError. A separate thread enters the namespace to make it."""
    libc = ctypes.CDLL(None, use_errno=True)
    made: list[socket.socket | OSError] = []

    def make() -> None:
        try:
            with open(f"/run/netns/{netns}", "rb") as file:
                if libc.setns(file.fileno(), CLONE_NEWNET):
                    number = ctypes.get_errno()
                    raise OSError(number, f"setns to {netns}: {os.strerror(number)}")
                made.append(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
        except OSError as error:  # handed to who asked
            made.append(error)

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    if isinstance(made[0], OSError):
        raise made[0]
    return made[0]
