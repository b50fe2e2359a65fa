# SPDX-License-Identifier: GPL-3.0-or-later
"""The stream netdev of a hostile QEMU: one connection at a time, frames with their lengths, or what the rule says."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import struct

from hostile_guest import Guest
from misbehaviour import Script

FLOOD = bytes(1000)
HALF = struct.pack("!I", 900) + bytes(100)
RAW = {"half": HALF, "half then die": HALF, "empty": bytes(4), "huge": struct.pack("!I", 1 << 30) + bytes(64)}


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def freeze() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


class Netdev:
    def __init__(self, fd: int, guest: Guest, script: Script) -> None:
        self._guest, self._script, self._loop = guest, script, asyncio.get_running_loop()
        self._socket: socket.socket | None = None
        self._input = b""
        self.flooding = self._mute = False
        listener = socket.socket(fileno=fd)
        listener.listen(1)
        listener.setblocking(False)
        self._loop.add_reader(listener.fileno(), self._accept, listener)

    def _accept(self, listener: socket.socket) -> None:
        connection, _address = listener.accept()
        if self._socket:
            connection.close()
            return
        self._socket = connection
        self._socket.setblocking(False)
        self._loop.add_reader(self._socket.fileno(), self.receive)
        self.pump()

    def receive(self) -> None:
        if not self._socket:
            return
        if not self._guest.running:  # a stopped VM takes no input
            self._loop.remove_reader(self._socket.fileno())
            return
        self._loop.add_reader(self._socket.fileno(), self.receive)
        try:
            data = self._socket.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            return self._hang_up()
        self._input += data
        while len(self._input) >= 4 and len(self._input) >= 4 + int.from_bytes(self._input[:4]):
            end = 4 + int.from_bytes(self._input[:4])
            frame, self._input = self._input[4:end], self._input[end:]
            if self._guest.take(frame):
                self._misbehave_on_the_net(self._script.at("net"))
        self.pump()

    def _misbehave_on_the_net(self, how: str) -> None:
        raw = RAW.get(how)
        if raw:
            self._guest.queue.append(raw)
            self.pump()
            self._mute = True
        if how == "half then die":
            die()
        elif how == "close":
            self._hang_up()
        elif how == "endless":
            self.flooding = True
        elif how == "die":
            die()
        elif how == "freeze":
            freeze()

    def _hang_up(self) -> None:
        if self._socket:
            self._loop.remove_reader(self._socket.fileno())
            self._loop.remove_writer(self._socket.fileno())
            self._socket.close()
            self._socket, self._input = None, b""

    def pump(self) -> None:
        if not self._socket or self._mute:
            return
        try:
            while self._guest.queue or self.flooding:
                if not self._guest.queue:
                    self._guest.send(FLOOD)
                head = self._guest.queue[0]
                self._guest.sent_of_first += self._socket.send(head[self._guest.sent_of_first :])
                if self._guest.sent_of_first == len(head):
                    self._guest.gone()
                if self.flooding:
                    break  # QMP has its turn too
            self._loop.remove_writer(self._socket.fileno())
        except BlockingIOError:
            self._loop.add_writer(self._socket.fileno(), self.pump)
        except OSError:
            self._hang_up()
        if self.flooding and self._socket:
            self._loop.add_writer(self._socket.fileno(), self.pump)
