# SPDX-License-Identifier: GPL-3.0-or-later
"""Work in another network namespace: in one that has a name, without a process there; or a program in a new one of its own."""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import threading
from collections.abc import Callable
from typing import TypeVar

CLONE_NEWNET, ALONE_S = 0x40000000, 120
Made = TypeVar("Made")


def inside(netns: str, work: Callable[[], Made]) -> Made:
    """What ``work`` returns or raises, done in the namespace of that name by a separate thread. Sockets that it makes stay there."""
    libc = ctypes.CDLL(None, use_errno=True)
    made: list[Made] = []
    raised: list[BaseException] = []

    def run() -> None:
        try:
            with open(f"/run/netns/{netns}", "rb") as file:
                if libc.setns(file.fileno(), CLONE_NEWNET):
                    number = ctypes.get_errno()
                    raise OSError(number, f"setns to {netns}: {os.strerror(number)}")
            made.append(work())
        except BaseException as error:  # handed to who asked
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if raised:
        raise raised[0]
    return made[0]


def socket_in(netns: str) -> socket.socket:
    """A TCP socket in the namespace of that name; raises OSError."""
    return inside(netns, lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM))


def alone(*command: str, mounts: bool = False) -> list[str]:
    """The lines that a command prints in a network namespace of its own, which ends with it. ``mounts``: and of mounts, so that it can
    have its own /sys. Raises AssertionError with what it complained of."""
    words = ["unshare", "--net", *(["--mount"] if mounts else []), *command]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=ALONE_S)
    if done.returncode:
        raise AssertionError(f"exit status {done.returncode}: {done.stderr}")
    return done.stdout.splitlines()
