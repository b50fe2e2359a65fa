# SPDX-License-Identifier: GPL-3.0-or-later
"""Two plain sockets coupled by the kernel: splice(2) moves what came in at one to the other, without a copy in this process.

For each direction a pipe holds what is under way. While it holds anything, nothing is read, so each side goes as fast as
the other one takes. TLS needs relay.py: its bytes have to be seen.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import socket
from collections.abc import Callable

PIPE_BYTES = 256 << 10
CLOSING_S_MAX = 5.0  # for the last bytes, after one side has ended
F_SETPIPE_SZ = 1031  # of Linux; fcntl has it by name in some versions of Python
_PIPE = os.O_NONBLOCK | os.O_CLOEXEC
_FLAGS = 1 | 2  # SPLICE_F_MOVE, SPLICE_F_NONBLOCK


class _Way:
    """One direction. ``ended(broken)`` is called once its source has ended and all of it is delivered, or at an error."""

    def __init__(self, pipe: tuple[int, int], source: socket.socket, target: socket.socket, ended: Callable[[bool], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._source, self._target, self._ended = source, target, ended
        self._out, self._in = pipe
        with contextlib.suppress(OSError):  # the size that it has will do
            fcntl.fcntl(self._in, F_SETPIPE_SZ, PIPE_BYTES)
        self._held = 0
        self._loop.add_reader(source, self._read)

    def _read(self) -> None:
        try:
            count = os.splice(self._source.fileno(), self._in, PIPE_BYTES, flags=_FLAGS)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            return self._ended(True)
        if not count:
            self._loop.remove_reader(self._source)
            with contextlib.suppress(OSError):
                self._target.shutdown(socket.SHUT_WR)
            return self._ended(False)
        self._held += count
        if not self._deliver():
            self._loop.remove_reader(self._source)
            self._loop.add_writer(self._target, self._write)

    def _write(self) -> None:
        if self._deliver():
            self._loop.remove_writer(self._target)
            self._loop.add_reader(self._source, self._read)

    def _deliver(self) -> bool:
        """Is all of it delivered?"""
        while self._held:
            try:
                count = os.splice(self._out, self._target.fileno(), self._held, flags=_FLAGS)
                if not count:
                    raise OSError(errno.EIO, "the pipe lost what it held")
                self._held -= count
            except (BlockingIOError, InterruptedError):
                return False
            except OSError:
                self._held = 0
                self._ended(True)
                return False
        return True

    def close(self) -> None:
        self._loop.remove_reader(self._source)
        self._loop.remove_writer(self._target)
        for fd in (self._out, self._in):
            os.close(fd)


class Splice:
    """Takes both sockets over. ``on_end`` is called once, when both are closed. Raises OSError if there are too few descriptors; then
    the sockets are still the caller's."""

    def __init__(self, one: socket.socket, other: socket.socket, on_end: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._sockets, self._on_end = (one, other), on_end
        self._open, self._closed = 2, False
        there = os.pipe2(_PIPE)
        try:
            back = os.pipe2(_PIPE)
        except OSError:
            for fd in there:
                os.close(fd)
            raise
        self._ways = [_Way(there, one, other, self._ended), _Way(back, other, one, self._ended)]

    def _ended(self, broken: bool) -> None:
        self._open -= 1
        if broken or not self._open:
            self._loop.call_soon(self.close)  # a way that is at work ends first
        else:
            self._loop.call_later(CLOSING_S_MAX, self.close)

    def close(self) -> None:
        """At once; what is under way is lost."""
        if self._closed:
            return
        self._closed = True
        for way in self._ways:
            way.close()
        for sock in self._sockets:
            sock.close()
        self._on_end()
