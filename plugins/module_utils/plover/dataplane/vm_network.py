# SPDX-License-Identifier: GPL-3.0-or-later
"""The adapter of one card's stream netdev of QEMU: wrapped frames in and out of one UNIX socket, never out of step.

A stream has no second chance: a partly sent or read frame must be completed. If that is impossible, the connection is
broken and reported; nothing on it is sent or trusted any more.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import socket
import termios
from collections import deque
from collections.abc import Callable

from ..errors import QemuError
from ..protocol.frames import FrameBuffer

BACKLOG_BYTES_MAX = 4 << 20
READ_BYTES = 64 << 10  # for a larger read Python takes fresh memory from the kernel each time: 33 us for a small frame, not 4
READS_MAX = 64  # 4 MiB, some 10 ms
SEND_BUFFER_BYTES = 1 << 20
NO_MEMORY = (errno.ENOBUFS, errno.ENOMEM)  # a moment's shortage in the kernel: the socket still works
RETRY_S = 0.005


class VmNetwork:
    def __init__(self, on_output: Callable[[bytes], None], on_broken: Callable[[str], None], dropped_bytes: int = 0, card: int = 0) -> None:
        """``on_output(run)``: whole frames came, marked as those of ``card``. ``on_broken(why)``: called once, when the connection
        is broken."""
        self._on_output, self._on_broken = on_output, on_broken
        self._loop = asyncio.get_running_loop()
        self._frames = FrameBuffer(card)
        self._backlog: deque[bytes] = deque()
        self._backlog_bytes = 0
        self._waits_for_room = False
        self._retry: asyncio.TimerHandle | None = None
        self._socket: socket.socket | None = None
        self.taken_bytes = 0  # of the VM's output, by any read
        self.dropped_bytes = dropped_bytes  # of the VM's input
        self.broken = ""  # the reason; empty: it works

    async def connect(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        await self._loop.sock_connect(self._socket, path)
        self._loop.add_reader(self._socket.fileno(), self.read)

    def fileno(self) -> int:
        return self._socket.fileno() if self._socket else -1

    def close(self) -> None:
        if self._socket:
            self._stop_waiting(self._socket)
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def give_up(self, why: str) -> None:
        """The connection is out of step, or its other end is gone."""
        if self.broken:
            return
        self.close()
        self.broken = why
        self.dropped_bytes += self._backlog_bytes
        self._backlog.clear()
        self._backlog_bytes = 0
        self._on_broken(why)

    # ---- the VM's output --------------------------------------------------------------------------
    def read(self) -> None:
        """Take the output that has come, READS_MAX pieces of it: a VM that sends without end must not keep the daemon from its
        heartbeats. The event loop calls again for the rest."""
        for _piece in range(READS_MAX):
            if self._socket is None:
                return
            try:
                data = self._socket.recv(READ_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                return self.give_up(f"QEMU's network socket: {error.strerror or error}")
            if not data:
                return self.give_up("QEMU closed its network socket")
            self.taken_bytes += len(data)
            try:
                run = self._frames.feed(data)
            except QemuError as error:
                return self.give_up(str(error))
            if run:
                self._on_output(run)

    @property
    def half_frame_bytes(self) -> int:
        """Bytes of a frame that has come only in part."""
        return self._frames.rest_bytes

    # ---- its input ----------------------------------------------------------------------------------
    @property
    def has_backlog(self) -> bool:
        return bool(self._backlog)

    @property
    def unread(self) -> bool:
        """QEMU has not read all that was sent to it."""
        if self._socket is None:
            return False
        try:
            return any(fcntl.ioctl(self._socket, termios.TIOCOUTQ, bytes(4)))
        except OSError:
            return False

    def inject(self, payload: bytes) -> None:
        """Feed wrapped frames of this card, as QEMU takes them; never blocks. The backlog of a stuck VM is bounded; further payloads
        are dropped whole."""
        if self._socket is None or (self._backlog and self._backlog_bytes + len(payload) > BACKLOG_BYTES_MAX):
            self.dropped_bytes += len(payload)
            return
        self._backlog.append(payload)
        self._backlog_bytes += len(payload)
        if len(self._backlog) == 1:
            self._flush()

    def _flush(self) -> None:
        """Send the backlog. The rest of a partly sent payload stays in front, whatever happens."""
        if self._socket is None:
            return None
        self._stop_waiting(self._socket)
        while self._backlog and self._socket is not None:
            head = self._backlog[0]
            try:
                sent = self._socket.send(head)
            except BlockingIOError:
                self._waits_for_room = True
                return self._loop.add_writer(self._socket.fileno(), self._flush)
            except OSError as error:
                if error.errno not in NO_MEMORY:
                    return self.give_up(f"QEMU takes no more frames: {error.strerror or error}")
                self._retry = self._loop.call_later(
                    RETRY_S, self._flush
                )  # not add_writer: the socket has room, so it would be called at once
                return None
            self._backlog_bytes -= sent
            if sent < len(head):
                self._backlog[0] = head[sent:]
            else:
                self._backlog.popleft()
        return None

    def _stop_waiting(self, sock: socket.socket) -> None:
        if self._waits_for_room:
            self._waits_for_room = False
            self._loop.remove_writer(sock.fileno())
        if self._retry:
            self._retry.cancel()
            self._retry = None
