#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""A QEMU that misbehaves as it is told: QMP, stream netdev, migration stream, COLO incoming loop (QEMU 7.2's dialect).

It understands the command line that the replica daemon makes. Told nothing, it behaves well enough to be protected, failed
over and filled again. What is wrong it does on real sockets, in a real process, with real memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import socket
import struct
import sys
from collections.abc import Callable
from pathlib import Path

from hostile_guest import Guest
from hostile_net import Netdev, die, freeze
from misbehaviour import TORN, Script

READY, REQUEST, REPLY, SEND, SIZE, RECEIVED, LOADED = range(7)
MESSAGES = {READY: "READY", REPLY: "REPLY", RECEIVED: "RECEIVED", LOADED: "LOADED"}
HEADER = b"QEVM" + struct.pack("!I", 3)
RAM = b"\x01\0\0\0\x02\x03ram"
ENABLE_COLO = bytes.fromhex("0800080000")
VERSION = {"qemu": {"major": 7, "minor": 2, "micro": 22}, "package": ""}
LATE_S = 0.15


class QmpFault(Exception):
    """Answered with GenericError."""


def nothing() -> None: ...


async def pour(writer: asyncio.StreamWriter, data: bytes) -> None:
    """As long as anybody reads."""
    with contextlib.suppress(OSError):
        while True:
            writer.write(data)
            await writer.drain()


class Double:
    def __init__(self, argv: list[str]) -> None:
        words = " ".join(argv)

        def find(pattern: str) -> str:
            return re.search(pattern, words).group(1)

        self.qmp = socket.socket(fileno=int(find(r"socket,id=qmp,fd=(\d+),")))
        self.script = Script(Path(self.qmp.getsockname()).parent)
        self.guest = Guest(
            find(r"mem-path=([^,]+),"),
            int(find(r"size=(\d+)M")) << 20,
            bytes.fromhex(find(r"mac=([0-9a-f:]+)").replace(":", "")),
            lambda text: self.script.write(f"{TORN} {text}"),
        )
        self.incoming = "-incoming defer" in words
        self.state = "inmigrate" if self.incoming else "running"
        self.guest.running = not self.incoming
        self.migration = ""
        self.monitors: set[asyncio.StreamWriter] = set()
        self.colo: asyncio.StreamWriter | None = None
        self.loop = asyncio.get_running_loop()
        self.net = Netdev(int(find(r"addr\.str=(\d+)")), self.guest, self.script)
        self.given: list[int] = []  # descriptors that no command has taken yet
        self.named: dict[str, int] = {}
        self.sets: list[int] = []

    async def run(self) -> None:
        await asyncio.start_unix_server(self._monitor, sock=self.qmp, backlog=1)
        await asyncio.Event().wait()

    # ---- the VM -----------------------------------------------------------------------------------
    def stop(self, state: str) -> None:
        if self.guest.running:
            self.guest.running = False
            self.event("STOP")
        self.state = state

    def start(self) -> None:
        self.guest.look("start")
        self.guest.running, self.state = True, "running"
        self.event("RESUME")
        self.net.receive()

    # ---- QMP ------------------------------------------------------------------------------------------
    def event(self, name: str, **data: object) -> None:
        text = json.dumps({"event": name, "data": data, "timestamp": {"seconds": 0, "microseconds": 0}}).encode() + b"\r\n"
        for writer in self.monitors:
            writer.write(text)

    async def _monitor(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        greeting = json.dumps({"QMP": {"version": VERSION, "capabilities": ["oob"]}}).encode() + b"\r\n"
        if how := self.script.at("qmp:greeting"):
            return await self._answer(writer, how, greeting, "")
        writer.write(greeting)
        for fd in self.given + list(self.named.values()):  # they end with the connection that brought them
            os.close(fd)
        self.given, self.named = [], {}
        decoder, text = json.JSONDecoder(), ""
        try:
            writer.transport.pause_reading()
            while chunk := await self._receive(writer):
                text = (text + chunk.decode()).lstrip()
                with contextlib.suppress(ValueError):
                    while text:
                        request, end = decoder.raw_decode(text)
                        text = text[end:].lstrip()
                        await self._command(writer, request)
        except ConnectionError:
            pass
        finally:
            self.monitors.discard(writer)
            writer.close()

    async def _receive(self, writer: asyncio.StreamWriter) -> bytes:
        """The next bytes, and descriptors on their way: asyncio's own reader would lose those."""
        with socket.socket(fileno=os.dup(writer.get_extra_info("socket").fileno())) as twin:
            twin.setblocking(False)
            come = asyncio.Event()
            self.loop.add_reader(twin, come.set)
            try:
                await come.wait()
            finally:
                self.loop.remove_reader(twin)
            chunk, fds, _flags, _address = socket.recv_fds(twin, 1 << 16, 4)
        self.given += fds
        return chunk

    def _take(self) -> int:
        if not self.given:
            raise QmpFault("No file descriptor supplied via SCM_RIGHTS")
        return self.given.pop(0)

    def qmp_getfd(self, fdname: str) -> None:
        fd = self._take()
        if fdname in self.named:
            os.close(self.named[fdname])
        self.named[fdname] = fd

    def qmp_add_fd(self) -> dict:
        self.sets.append(self._take())
        return {"fdset-id": len(self.sets) + 10, "fd": self.sets[-1]}

    async def _connection(self, uri: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_unix_connection(sock=socket.socket(fileno=self.named.pop(uri.removeprefix("fd:"))))

    async def _command(self, writer: asyncio.StreamWriter, request: dict) -> None:
        name = request.get("execute") or request.get("exec-oob")
        if name == "qmp_capabilities":
            writer.write(json.dumps({"return": {}, "id": request.get("id")}).encode() + b"\r\n")
            self.monitors.add(writer)
            return
        how = self.script.at(f"qmp:{name}")
        if how == "events":  # of the guest's own doing
            self.event("RESET", guest=True, reason="guest-reset")
            self.event("STOP")
            self.event("RESUME")
            how = ""
        if how == "flood":
            self.net.flooding = True
            self.net.pump()
        if how == "die":
            die()
        if how == "freeze":
            freeze()
        result, after = {}, nothing
        try:
            if how != "error":
                result, after = self._do(name, request.get("arguments") or {})
            answer: dict = {"return": result}
            if how in ("error", "did error"):
                raise QmpFault("told to fail")
        except QmpFault as error:
            answer = {"error": {"class": "GenericError", "desc": str(error)}}
        answer["id"] = request.get("id")
        await self._answer(writer, how, json.dumps(answer).encode() + b"\r\n", request.get("id"))
        after()
        if how == "did die":
            await writer.drain()
            die()

    async def _answer(self, writer: asyncio.StreamWriter, how: str, text: bytes, ident: object) -> None:
        wrong = {
            "nonsense": b"nonsense\r\n",
            "half": text[: len(text) // 2],
            "hang": b"",
            "a list": json.dumps({"return": [7], "id": ident}).encode() + b"\r\n",
            "an object": json.dumps({"return": {"x": 7}, "id": ident}).encode() + b"\r\n",
            "wrong id": json.dumps({"return": {}, "id": "another"}).encode() + b"\r\n",
        }
        if how == "late":
            await asyncio.sleep(LATE_S)
        if how == "endless":
            await pour(writer, b'{"return": "' + b"x" * 65536)
        elif how == "close":
            writer.close()
        else:
            writer.write(wrong.get(how, text))
        if how == "half then close":
            writer.close()

    def _do(self, name: str, arguments: dict) -> tuple[object, Callable[[], None]]:
        """The command's answer, and what happens after it."""
        work = getattr(self, "qmp_" + name.replace("-", "_"), None)
        if work is None:
            raise QmpFault(f"The command {name} has not been found")
        out = work(**{key.replace("-", "_"): value for key, value in arguments.items()})
        return out if isinstance(out, tuple) else ({} if out is None else out, nothing)

    def qmp_query_version(self) -> dict:
        return VERSION

    def qmp_qom_get(self, path: str, property: str) -> str:
        return "pc-i440fx-7.2-machine"

    def qmp_query_status(self) -> dict:
        return {"status": self.state, "running": self.guest.running, "singlestep": False}

    def qmp_stop(self) -> None:
        self.stop("paused")

    def qmp_cont(self) -> None:
        if self.state == "inmigrate":
            raise QmpFault("the VM is not there yet")
        if not self.guest.running:
            self.start()

    def qmp_migrate_set_capabilities(self, capabilities: list) -> None:
        pass

    def qmp_migrate_set_parameters(self, announce_rounds: int) -> None:
        if not self.incoming:
            raise QmpFault("told to a VM that never loads")

    def qmp_announce_self(self, **_how: object) -> None:
        self.guest.send(b"\xff" * 6 + self.guest.mac + b"\x80\x35")
        self.net.pump()

    def qmp_query_migrate(self) -> dict:
        return {"status": self.migration} if self.migration else {}

    def qmp_query_yank(self) -> list:
        return []

    def qmp_migrate_cancel(self) -> None:
        pass

    def qmp_xen_save_devices_state(self, filename: str, live: bool) -> None:
        how, state = self.script.at("state"), HEADER + self.guest.save()
        fd = self.sets[int(filename.removeprefix("/dev/fdset/")) - 11]
        if how == "huge":
            os.truncate(fd, 4 << 30)
        elif how != "none":
            os.write(fd, {"half": state[:6], "empty": b""}.get(how, state))

    def qmp_system_reset(self) -> None:
        self.guest.boot()
        self.event("RESET", guest=False, reason="host-qmp-system-reset")

    # ---- migration --------------------------------------------------------------------------------
    def qmp_migrate(self, uri: str) -> tuple[dict, Callable[[], None]]:
        if self.guest.running:
            raise QmpFault("told to migrate a VM that runs")
        self.migration = "active"
        return {}, lambda: self.loop.create_task(self._migrate(uri))

    async def _migrate(self, uri: str) -> None:
        how = self.script.at("capture")
        if how == "failed":
            self.migration = "failed"
            return
        state = self.guest.save()
        stream = HEADER + b"\x07config" + RAM + struct.pack("!I", len(state)) + state
        _reader, writer = await self._connection(uri)
        if how == "hang":
            await asyncio.Event().wait()
        if how == "endless":
            await pour(writer, stream)
        if how in ("half", "half then die"):
            stream = stream[: len(stream) // 2]
        writer.write(b"nonsense" if how == "nonsense" else b"" if how == "close" else stream)
        with contextlib.suppress(OSError):
            await writer.drain()
        if how == "half then die":
            die()
        if how == "freeze":
            freeze()
        writer.close()
        if how != "never ends":
            self.migration, self.state = "completed", "postmigrate"

    def qmp_migrate_incoming(self, uri: str) -> tuple[dict, Callable[[], None]]:
        return {}, lambda: self.loop.create_task(self._incoming(uri))

    async def _incoming(self, uri: str) -> None:
        reader, writer = await self._connection(uri)
        self.colo = writer
        try:
            await reader.readuntil(ENABLE_COLO + RAM)
            self.guest.load(await reader.readexactly(struct.unpack("!I", await reader.readexactly(4))[0]))
            self.start()
            await self._say(READY)
            while True:
                await self._expect(reader, REQUEST)
                self.stop("colo")
                await self._say(REPLY)
                await self._expect(reader, SEND)
                if await reader.readexactly(1) != b"\0":
                    raise ValueError("a live section that is not empty")
                await self._expect(reader, SIZE)
                state = await reader.readexactly(struct.unpack("!Q", await reader.readexactly(8))[0])
                await self._say(RECEIVED)
                self.guest.load(state)
                await self._say(LOADED)
                self.start()
        except (asyncio.IncompleteReadError, OSError, ValueError, KeyError, asyncio.LimitOverrunError) as error:
            if self.colo is writer:  # else the VM has left the loop
                self.script.write(f"COLO loop ends: {type(error).__name__} {error}")
                self.stop("colo")
                self.event("COLO_EXIT", mode="secondary", reason="error")

    async def _expect(self, reader: asyncio.StreamReader, wanted: int) -> None:
        got = struct.unpack("!I", await reader.readexactly(4))[0]
        if got != wanted:
            raise ValueError(f"message {got} in place of {wanted}")

    async def _say(self, message: int) -> None:
        how, text = self.script.at(f"colo:{MESSAGES[message]}"), struct.pack("!I", message)
        if how == "die":
            die()
        if how == "freeze":
            freeze()
        if how == "late":
            await asyncio.sleep(LATE_S)
        if how == "hang":
            await asyncio.Event().wait()
        if how == "endless":
            await pour(self.colo, text * 16384)
        if how == "close":
            self.colo.close()
            raise ValueError("told to hang up")
        self.colo.write({"half": text[:2], "wrong": struct.pack("!I", 77), "twice": 2 * text}.get(how, text))
        if how == "half":
            await asyncio.Event().wait()
        if how == "did die":
            await self.colo.drain()
            die()

    def qmp_x_colo_lost_heartbeat(self) -> tuple[dict, Callable[[], None]]:
        if not self.colo:
            raise QmpFault("not in COLO mode")
        return {}, self._leave_loop

    def qmp_query_colo_status(self) -> dict:
        left = self.incoming and not self.colo
        return {"mode": "none" if left else "secondary", "last-mode": "secondary", "reason": "request" if left else "none"}

    def _leave_loop(self) -> None:
        colo, self.colo = self.colo, None
        self.stop("colo")
        colo.close()
        self.start()


async def main() -> None:
    await Double(sys.argv).run()


if __name__ == "__main__":
    if "--version" in sys.argv:
        print("QEMU emulator version 7.2.22")
    else:
        asyncio.run(main())
