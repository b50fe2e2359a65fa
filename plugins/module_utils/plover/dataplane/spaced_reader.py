# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads a descriptor at once, but a busy one in turns that lie apart.

A VM under load sends frame after frame. A daemon that is woken by each, and goes before the VM, handles each alone: its cost per
frame is that of a turn. So once frames come one upon the other, they gather for a moment.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import select
import time
from collections.abc import Callable

TFD_NONBLOCK, TFD_CLOEXEC = os.O_NONBLOCK, os.O_CLOEXEC  # sys/timerfd.h
_LIBC = ctypes.CDLL(None, use_errno=True)
_TimerSpec = ctypes.c_long * 4  # struct itimerspec: interval and value, seconds and nanoseconds each


class SpacedReader:
    """``read()`` takes what ``fd`` has, and says whether that was anything. Between two turns of a busy one lie ``space_s`` (below 1).

    The first turn after a quiet time begins at once. The event loop's own timers would not do: they count in whole milliseconds.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, fd: int, read: Callable[[], bool], space_s: float) -> None:
        self._loop, self._fd, self._read = loop, fd, read
        self._space_ns = int(1e9 * space_s)
        self._read_at_ns, self._rests = 0, False
        self._timer = _LIBC.timerfd_create(time.CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC)
        if self._timer < 0:
            raise OSError(ctypes.get_errno(), f"a timer of the kernel: {os.strerror(ctypes.get_errno())}")
        self._gate = select.epoll()  # to be switched off and on it takes 1 µs, the event loop's own takes 7
        self._gate.register(fd, select.EPOLLIN)
        self._gate.register(self._timer, select.EPOLLIN)
        loop.add_reader(self._gate.fileno(), self._ready)

    def close(self) -> None:
        if not self._gate.closed:
            self._loop.remove_reader(self._gate.fileno())
            self._gate.close()
            os.close(self._timer)

    def _ready(self) -> None:
        """There is something to read; or the pause is over; or, in a pause, the other end is gone, which needs no asking."""
        now_ns, was_resting = time.monotonic_ns(), self._rests
        if was_resting:
            with contextlib.suppress(BlockingIOError):
                os.read(self._timer, 8)
        elif now_ns - self._read_at_ns < self._space_ns:
            return self._rest(self._space_ns - (now_ns - self._read_at_ns))
        self._read_at_ns = now_ns
        came = self._read()
        if self._gate.closed or not was_resting:
            return None
        if came:
            return self._rest(self._space_ns)
        self._rests = False
        return self._gate.modify(self._fd, select.EPOLLIN)

    def _rest(self, pause_ns: int) -> None:
        if not self._rests:
            self._rests = True
            self._gate.modify(self._fd, 0)
        _LIBC.timerfd_settime(self._timer, 0, _TimerSpec(0, 0, 0, pause_ns), None)
