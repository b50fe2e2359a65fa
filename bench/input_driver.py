# SPDX-License-Identifier: GPL-3.0-or-later
"""Both ends of the path that `make bench-input` measures: the client's network card, and the VM's side of the socket.

Frames carry a number and the time at which they were sent. Of what comes out every frame is looked at: none may be lost,
doubled or out of order, and the secondary's VM must have been fed the very same bytes as the leader's.
"""

from __future__ import annotations

import select
import socket
import statistics
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from plover.protocol.frames import FrameBuffer, split, wrap

from .hosts import REPLICAS
from .input_replica import SOCKET
from .load import BenchError

CARD = "lan"
INPUT, OUTPUT = "input", "output"
TYPES = {INPUT: 0x88B5, OUTPUT: 0x88B6}  # IEEE 802's for local experiments: nobody else's frame is taken for one
GUEST_MAC = bytes.fromhex("525400706c01")
BODY = struct.Struct("!QQ")  # number, monotonic ns
HEAD_BYTES, BURST, RECEIVE_BYTES, BUFFER_BYTES = 14, 32, 256 << 10, 8 << 20
LOST_S, SETTLE_S = 5.0, 5.0


class Load(NamedTuple):
    """``window``: the most frames in flight. ``per_s``: frames per second; 0 = as fast as possible."""

    way: str
    frame_bytes: int
    window: int
    per_s: int
    seconds: float


class Passed(NamedTuple):
    frames: int
    frames_per_s: float
    p50_us: float
    p99_us: float


class Check:
    """Numbers and times of the frames that came out."""

    def __init__(self, way: str, size: int) -> None:
        self._type, self._size = struct.pack("!H", TYPES[way]), size
        self.count = 0
        self.latencies_ns: list[int] = []

    def frame(self, frame: bytes | memoryview, now_ns: int) -> None:
        if frame[12:14] != self._type:
            return  # of another program, e.g. an announcement of where the VM is
        number, sent_ns = BODY.unpack_from(frame, HEAD_BYTES)
        if number != self.count or len(frame) != self._size:
            raise BenchError(f"frame {number} of {len(frame)} bytes came out, {self.count} of {self._size} was due")
        self.count += 1
        self.latencies_ns.append(now_ns - sent_ns)


class Driver:
    def __init__(self, folder: Path) -> None:
        self._listeners = {}
        for host in REPLICAS:
            (folder / host).mkdir(parents=True, exist_ok=True)
            self._listeners[host] = listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            listener.settimeout(0)
            listener.bind(str(folder / host / SOCKET))
            listener.listen(1)
        self.vms: dict[str, socket.socket] = {}
        self._card = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(TYPES[OUTPUT]))
        self._card.bind((CARD, TYPES[OUTPUT]))
        self._card.setsockopt(socket.SOL_SOCKET, 33, BUFFER_BYTES)  # SO_RCVBUFFORCE
        self._card.setblocking(False)
        self._mac = self._card.getsockname()[4]
        self._rest = FrameBuffer()
        self.fed = {host: [0, 0] for host in REPLICAS}  # bytes, CRC

    def connected(self) -> int:
        """The number of VMs that have a daemon by now."""
        for host, listener in self._listeners.items():
            if host not in self.vms:
                try:
                    self.vms[host] = listener.accept()[0]
                    self.vms[host].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
                except BlockingIOError:
                    pass
        return len(self.vms)

    def close(self) -> None:
        for sock in (*self._listeners.values(), *self.vms.values(), self._card):
            sock.close()

    # ---- a load ------------------------------------------------------------------------------------------------
    def run(self, load: Load) -> Passed:
        """Raises BenchError unless every frame came out, unchanged."""
        check = Check(load.way, load.frame_bytes)
        send = self._send_to_tap if load.way == INPUT else self._send_from_vm
        began = time.monotonic()
        sent = self._send_and_receive(load, check, send, began)
        lasted_s = time.monotonic() - began
        self.settle()
        centiles = statistics.quantiles([ns / 1000 for ns in check.latencies_ns], n=100, method="inclusive")
        return Passed(sent, sent / lasted_s, centiles[49], centiles[98])

    def _send_and_receive(self, load: Load, check: Check, send: Callable[[list[bytes]], None], began: float) -> int:
        size, sent, until, progress = load.frame_bytes, 0, began + load.seconds, began
        head = self._head(load.way)
        padding = bytes(size - HEAD_BYTES - BODY.size)
        while True:
            now = time.monotonic()
            due = min(load.window - (sent - check.count), BURST)
            if load.per_s:
                due = min(due, int((now - began) * load.per_s) + 1 - sent)
            if now < until and due > 0:
                send([head + BODY.pack(number, time.monotonic_ns()) + padding for number in range(sent, sent + due)])
                sent += due
            if self._receive(check, 0.0 if now < until and not load.per_s else 0.00005):
                progress = now
            if now >= until and check.count == sent:
                return sent
            if now - progress > LOST_S:
                raise BenchError(f"{load.way}: of {sent} frames only {check.count} came out")

    def _head(self, way: str) -> bytes:
        pair = (GUEST_MAC, self._mac) if way == INPUT else (self._mac, GUEST_MAC)
        return b"".join(pair) + struct.pack("!H", TYPES[way])

    def _send_to_tap(self, frames: list[bytes]) -> None:
        for frame in frames:
            self._card.send(frame)

    def _send_from_vm(self, frames: list[bytes]) -> None:
        """As QEMU does: the leader's one by one. The secondary's VM sends the same."""
        for frame in frames:
            self.vms["primary"].sendall(wrap(frame))
        if "secondary" in self.vms:
            self.vms["secondary"].sendall(b"".join(map(wrap, frames)))

    def _receive(self, check: Check, wait_s: float) -> bool:
        """Whether anything came."""
        ready, _, _ = select.select([self._card, *self.vms.values()], [], [], wait_s)
        for sock in ready:
            if sock is self._card:
                self._from_card(check)
        for host, sock in self.vms.items():
            if sock in ready:
                self._from_daemon(host, sock.recv(RECEIVE_BYTES), check)
        return bool(ready)

    def _from_card(self, check: Check) -> None:
        for _ in range(BURST):
            try:
                frame, address = self._card.recvfrom(2048)
            except BlockingIOError:
                return
            if address[2] != socket.PACKET_OUTGOING:  # what we send ourselves is shown too
                check.frame(frame, time.monotonic_ns())

    def _from_daemon(self, host: str, data: bytes, check: Check) -> None:
        if not data:
            raise BenchError(f"{host}'s daemon closed the VM's socket")
        fed = self.fed[host]
        fed[0], fed[1] = fed[0] + len(data), zlib.crc32(data, fed[1])
        if host == "primary":
            now_ns = time.monotonic_ns()
            for frame in split(self._rest.feed(data)):
                check.frame(frame, now_ns)

    def settle(self) -> None:
        """Waits until both VMs have received the same input."""
        if len(self.vms) < 2:
            return
        nothing = Check(INPUT, 0)
        nothing.frame = lambda frame, now_ns: None
        end = time.monotonic() + SETTLE_S
        while self.fed["primary"] != self.fed["secondary"]:
            if time.monotonic() > end:
                raise BenchError(f"the VMs were not fed the same: (bytes, CRC) is {self.fed}")
            self._receive(nothing, 0.05)
