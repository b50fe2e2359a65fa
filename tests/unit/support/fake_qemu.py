# SPDX-License-Identifier: GPL-3.0-or-later
"""A QEMU as its daemon sees it, in a thread of its own: QMP, and a stream netdev that sends what waits as somebody reads.

As in QEMU (net/stream.c, net/queue.c) frames that the socket does not take wait and go out later, whether the VM runs or
not; each that is gone changes the queue in guest memory. What of a frame was sent is remembered over connections, until
a write fails.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from collections import deque
from pathlib import Path

GREETING = {"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 22}, "package": ""}, "capabilities": ["oob"]}}
RESET = {"guest": False, "reason": "host-qmp-system-reset"}
LISTS = {"query-named-block-nodes": [], "query-yank": [], "x-debug-query-block-graph": {"nodes": [], "edges": []}}
VERSION = {"qemu": {"major": 7, "minor": 2, "micro": 22}, "package": ""}


class FakeQemu:
    def __init__(self, folder: Path) -> None:
        self.qmp_path, self.net_path = str(folder / "qmp.sock"), str(folder / "net.sock")
        self.waiting: deque[bytes] = deque()  # frames with their lengths that the card has in its queue
        self.used = 0  # of the queue in guest memory: frames already sent
        self.sent_of_first = 0
        self.state = "running"
        self.migration = ""
        self.commands: list[str] = []
        self.before: dict[str, list[tuple[str, dict]]] = {}  # events just before a command takes effect
        self.answers: dict[str, object] = {}  # by command; an Exception is an error
        self.received = b""
        self._net: socket.socket | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def __enter__(self) -> FakeQemu:
        self._thread.start()
        assert self._ready.wait(5)
        return self

    def __exit__(self, *error: object) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(5)
        assert not self._thread.is_alive()

    def do(self, work) -> None:
        """``work()`` in QEMU's main loop; returns when it is done."""
        done = threading.Event()
        self._loop.call_soon_threadsafe(lambda: (work(), done.set()))
        assert done.wait(5)

    async def _run(self) -> None:
        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_unix_server(self._monitor, self.qmp_path)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(self.net_path)
        self._listener.listen(1)
        self._listener.setblocking(False)
        self._loop.add_reader(self._listener.fileno(), self._accept)
        self._ready.set()
        await self._ended.wait()
        server.close()
        self._disconnect()
        self._listener.close()

    # ---- the netdev -----------------------------------------------------------------------------
    def _accept(self) -> None:
        self._loop.remove_reader(self._listener.fileno())  # one connection at a time; the next one waits
        self._net, _ = self._listener.accept()
        self._net.setblocking(False)
        self._loop.add_reader(self._net.fileno(), self._receive)

    def _receive(self) -> None:
        with contextlib.suppress(BlockingIOError, OSError):
            data = self._net.recv(1 << 16)
            self.received += data
            if data:
                return
        self._disconnect()
        self._loop.add_reader(self._listener.fileno(), self._accept)

    def _disconnect(self) -> None:
        if self._net:
            self._loop.remove_reader(self._net.fileno())
            self._loop.remove_writer(self._net.fileno())
            self._net.close()
            self._net = None

    def transmit(self, *frames: bytes) -> None:
        self.waiting.extend(len(frame).to_bytes(4, "big") + frame for frame in frames)
        self.flush()

    def flush(self) -> None:
        """Send until the socket is full; called again when there is room."""
        while self.waiting and self._net is not None:
            frame = self.waiting[0]
            try:
                self.sent_of_first += self._net.send(frame[self.sent_of_first :])
            except BlockingIOError:
                self._loop.add_writer(self._net.fileno(), self.flush)
                return
            except OSError:
                self.sent_of_first = len(frame)
            if self.sent_of_first < len(frame):
                continue
            self.sent_of_first = 0
            self.waiting.popleft()
            self.used += 1
        if self._net is not None:
            self._loop.remove_writer(self._net.fileno())

    def send_part(self, frame: bytes, count: int) -> None:
        """The socket is full in the middle of a frame (one longer than a buffer of the kernel's)."""
        wrapped = len(frame).to_bytes(4, "big") + frame
        self._net.send(wrapped[:count])
        self.waiting.append(wrapped)
        self.sent_of_first = count

    def purge(self) -> None:
        """A stop or a reset throws away an unsent frame, but not the part of it that was sent."""
        self.waiting.clear()

    # ---- QMP ------------------------------------------------------------------------------------
    async def _monitor(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        def say(message: dict) -> None:
            writer.write(json.dumps(message).encode() + b"\r\n")

        say(GREETING)
        decoder, text = json.JSONDecoder(), ""
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                text = (text + data.decode()).lstrip()
                while text:
                    try:
                        request, end = decoder.raw_decode(text)
                    except ValueError:
                        break
                    text = text[end:].lstrip()
                    name = request.get("execute") or request["exec-oob"]
                    for event, details in self.before.get(name, ()):
                        say({"event": event, "data": details, "timestamp": {"seconds": 1, "microseconds": 0}})
                    answer = self.answers.get(name)
                    if answer is None:
                        answer = self._do(name)
                    named = {"id": request["id"]} if "id" in request else {}
                    if isinstance(answer, Exception):
                        say({"error": {"class": "GenericError", "desc": str(answer)}, **named})
                    else:
                        say({"return": answer, **named})
                    if name == "system_reset":
                        self._loop.call_later(0.02, self._reset, say)
        writer.close()

    def _do(self, name: str) -> object:
        if name != "query-status":
            self.commands.append(name)
        if name == "stop" and self.state == "running":
            self.state = "paused"
            self.flush()
        elif name == "cont":
            self.state = "running"
            self.flush()
        elif name == "announce-self" and self.state == "running":
            self.transmit(bytes(60))
        elif name == "migrate":
            self.migration = "failed"  # it cannot connect, say
        elif name == "migrate_cancel":
            self.state, self.migration = "paused", "cancelled"
        elif name == "query-status":
            return {"status": self.state, "running": self.state == "running"}
        elif name == "query-migrate":
            return {"status": self.migration} if self.migration else {}
        elif name == "query-version":
            return VERSION
        elif name == "qom-get":
            return "pc-i440fx-7.2-machine"
        return LISTS.get(name, {})

    def _reset(self, say) -> None:
        self.commands.append("(reset)")
        say({"event": "RESET", "data": RESET, "timestamp": {"seconds": 1, "microseconds": 0}})
