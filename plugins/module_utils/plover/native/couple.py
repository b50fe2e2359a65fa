# SPDX-License-Identifier: GPL-3.0-or-later
"""Two sockets coupled by a thread of the native library (native/src/couple/): bytes go through this process, and not through Python."""

from __future__ import annotations

import asyncio
import ctypes as c
import functools
import os
import socket
from collections.abc import Callable

from .buffers import NativeError, address_of, checked
from .library import Native, load

CLOSING_S_MAX = 5.0  # for the last bytes, after one side has ended
KEY_BYTES = 32  # PLOVER_COUPLE_KEY


@functools.cache
def _library() -> Native:
    return load()


def can_tls() -> bool:
    """Can a couple speak TLS? False without the native library, too."""
    try:
        return bool(_library().lib.plover_couple_can_tls())
    except NativeError:
        return False


class Couple:
    """Takes both sockets over. ``on_end`` is called once, when both are closed. With a ``key`` of KEY_BYTES bytes, known to the other
    end of ``one``, too, that socket speaks TLS from now on; one end ``dials``. ``first``: bytes for ``one`` before all else.

    Raises NativeError or OSError; then the sockets are still the caller's.
    """

    def __init__(
        self,
        one: socket.socket,
        other: socket.socket,
        on_end: Callable[[], None],
        key: bytes | None = None,
        dials: bool = False,
        first: bytes = b"",
    ) -> None:
        if key is not None and len(key) != KEY_BYTES:
            raise NativeError(f"a key of {len(key)} bytes, need {KEY_BYTES}")
        self._loop, self._on_end, self._lib = asyncio.get_running_loop(), on_end, _library().lib
        self._handle = c.c_void_p()
        self._told = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        try:
            checked(
                self._lib.plover_couple_new(
                    one.fileno(),
                    other.fileno(),
                    key and address_of(key, False),
                    dials,
                    address_of(first, False),
                    len(first),
                    self._told,
                    int(1000 * CLOSING_S_MAX),
                    c.byref(self._handle),
                ),
                "coupling two sockets",
            )
        except NativeError:
            os.close(self._told)
            raise
        one.detach()
        other.detach()
        self._loop.add_reader(self._told, self.close)

    def hold(self, side: int, held: bool) -> None:
        """Read nothing from ``one`` (0) or ``other`` (1), or go on."""
        if self._told >= 0:
            checked(self._lib.plover_couple_hold(self._handle, side, held), "holding a couple's bytes")

    def close(self) -> None:
        """At once; what is under way is lost."""
        if self._told < 0:
            return
        self._loop.remove_reader(self._told)
        self._lib.plover_couple_free(self._handle)
        os.close(self._told)
        self._told = -1
        self._on_end()
