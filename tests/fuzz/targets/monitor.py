# SPDX-License-Identifier: GPL-3.0-or-later
"""What QEMU says on its monitor: bytes through the library, and answers of another form than QEMU's documentation has."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from fake_qemu import GREETING, VERSION
from plover.disks.block_layer import BlockLayer
from plover.errors import QemuError
from plover.qemu import qmp, vm

from ..target import Target, promise
from . import group

LOOP = asyncio.new_event_loop()
CONFIG = group.config("primary", disks=[{"path": "/images/a.img"}])
DISK = CONFIG.disk_list[0]
ANSWERS_MAX = 40
READ_BYTES, EVENT = 65_536, b'"event"'
ID, SILENCE_S = b"ID", 0.02  # stands for a command's id; then QEMU closes
WAIT_S = 0.2  # for an answer


def _id_of(command: bytes) -> bytes:
    """The library ends its commands with nothing."""
    found = re.findall(rb'"id": ?"([^"]*)"', command)
    return found[-1] if found else b""


# ---- bytes --------------------------------------------------------------------------------------------------------
async def _listen(data: bytes) -> None:
    """QEMU's socket: one line of ``data`` at first, and one for each command that comes, with its id; then it closes."""
    path, lines = str(group.FOLDER / f"qmp-{os.getpid()}.sock"), data.split(b"\n")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            command = b""
            for line in lines:
                writer.write(line.replace(ID, _id_of(command)) + b"\r\n")
                await writer.drain()
                if EVENT not in line:  # nobody asks for those
                    command = await asyncio.wait_for(reader.read(READ_BYTES), SILENCE_S)
        except (OSError, ValueError, asyncio.TimeoutError):
            pass
        writer.close()

    server = await asyncio.start_unix_server(serve, path)
    monitor = qmp.Qmp(path)  # its first command connects
    monitor.pid = os.getpid()
    try:
        with monitor.listening("RESET"):
            await monitor.ask("query-status", status=str)
            await monitor.execute("stop")
            await monitor.execute_and_wait("system_reset", "RESET", reason="host-qmp-system-reset")
    finally:
        await monitor.close()
        server.close()


def stream(data: bytes) -> None:
    before, qmp.COMMAND_TIMEOUT_S = qmp.COMMAND_TIMEOUT_S, WAIT_S
    try:
        LOOP.run_until_complete(_listen(data))
    finally:
        qmp.COMMAND_TIMEOUT_S = before


def _stream() -> Iterator[tuple[str, bytes]]:
    greeting, done = json.dumps(GREETING).encode(), json.dumps({"return": {}, "id": "ID"}).encode()
    status = json.dumps({"return": {"running": True, "status": "running"}, "id": "ID"}).encode()
    event = json.dumps(
        {"event": "RESET", "data": {"guest": False, "reason": "host-qmp-system-reset"}, "timestamp": {"seconds": 1, "microseconds": 1}}
    )
    error = json.dumps({"error": {"class": "GenericError", "desc": "no"}, "id": "ID"}).encode()
    yield "greeting", greeting
    yield "status", b"\n".join((greeting, done, status, error))
    yield "other-form", b"\n".join((greeting, done, done))
    yield "event", b"\n".join((greeting, done, status, done, event.encode(), done))


# ---- answers ------------------------------------------------------------------------------------------------------
class _Monitor(qmp.Qmp):
    """Answers one after the other; at their end QEMU is gone. An answer with the only key "error" is QEMU's error."""

    def __init__(self, answers: list[Any]) -> None:
        self._answers = iter(answers[:ANSWERS_MAX])

    async def _execute(self, command: str, arguments: dict[str, Any], out_of_band: bool) -> Any:
        for answer in self._answers:
            if isinstance(answer, dict) and list(answer) == ["error"]:
                raise QemuError(f"QMP {command}: {str(answer['error'])[:20]!r}")
            return answer
        raise QemuError(f"QMP {command}: QEMU is gone")


class _Vm(vm.Vm):
    """A Vm whose monitor is ``monitor``, without a process."""

    def __init__(self, monitor: _Monitor) -> None:
        self.config, self._qmp, self._block = CONFIG, monitor, BlockLayer(CONFIG, monitor)
        self._colo = None
        self._loop = LOOP


ASKED: tuple[Callable[[_Vm], Awaitable[object]], ...] = (
    lambda v: v.block.sizes(),
    lambda v: v.block.overlay_bytes(),
    lambda v: v.block.end_export(),
    lambda v: v.block.flush(DISK),
    lambda v: v.block.peer_error(),
    lambda v: v.block.cut(),
    lambda v: v.block.detach(),
    lambda v: v.block.merge.look(),
    lambda v: v.block.merge.again(),
    lambda v: v.block.merge.mend(),
    lambda v: v.block._copy.abandon(),
    lambda v: v.block._copy.finish(),
    lambda v: v.block._graph.dirty_bytes(DISK),
    lambda v: v._in_colo(),
    lambda v: v._end_migration(),
    lambda v: v.qmp.ask("query-version", qemu=dict),
    lambda v: v.qmp.capabilities(x_colo=True),
)


def answers(data: bytes) -> None:
    """The first line says what is asked, the others are the answers."""
    head, *lines = data.split(b"\n")
    try:
        found = [json.loads(line) for line in lines]
        which = int(head[:4] or b"0")
    except (ValueError, RecursionError):
        return  # the library refuses it
    under_test = _Vm(_Monitor(found))
    LOOP.run_until_complete(ASKED[which % len(ASKED)](under_test))


NODES = [
    {"node-name": "disk0", "image": {"virtual-size": 1048576}},
    {"node-name": "top0", "image": {"virtual-size": 1048576}, "dirty-bitmaps": [{"name": "0" * 32, "count": 65536}]},
    *({"node-name": name, "image": {"virtual-size": 1048576}} for name in ("image0", "active0", "hidden0", "nbd0", "peer0")),
]
GRAPH = {
    "nodes": [{"id": n, "name": node["node-name"]} for n, node in enumerate(NODES)],
    "edges": [
        {"parent": 1, "child": 2, "name": "children.0"},
        {"parent": 2, "child": 3, "name": "file"},
        {"parent": 1, "child": 6, "name": "children.1"},
    ],
}
JOBS = [{"device": "merge0", "id": "copy0", "status": "paused", "offset": 0, "len": 0, "current-progress": 0}]
SEEDS: dict[int, list[Any]] = {
    0: [NODES],
    1: [[{"stats": {"wr_bytes": 4096, "wr_operations": 1}}]],
    2: [{"error": "no server"}, []],
    3: [""],
    4: [{"error": False}],
    5: [[{"type": "block-node", "node-name": "nbd0"}], {}],
    6: [[], [], NODES, NODES, NODES, NODES, NODES, GRAPH, {}, {}, {}, {}],
    7: [JOBS, NODES, GRAPH, {}, {}],
    8: [JOBS, NODES, GRAPH, {"running": True, "status": "running"}, {}, NODES, GRAPH],
    9: [NODES, NODES],
    10: [JOBS, {}, JOBS, NODES, NODES],
    11: [NODES, NODES, {}, [{**JOBS[0], "status": "concluded"}], {}],
    12: [NODES, NODES],
    13: [{"mode": "secondary", "last-mode": "none", "reason": "none"}],
    14: [{"running": True, "status": "running"}, {"status": "completed"}],
    15: [{"status": "completed"}],
    16: [VERSION],
    17: [{}],
}


def _answers() -> Iterator[tuple[str, bytes]]:
    for number, given in SEEDS.items():
        yield f"{number:02}", b"\n".join((str(number).encode(), *(json.dumps(answer).encode() for answer in given)))


def events(data: bytes) -> None:
    """Events with any data, to those who wait for one and to those who watch."""
    LOOP.run_until_complete(_hear(data.split(b"\n")))


async def _hear(lines: list[bytes]) -> None:
    for line in lines:
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            return
        if isinstance(event, dict) and "event" in event:  # the library takes nothing else for an event
            listener = qmp.Listener("RESET", "BLOCK_IO_ERROR")
            await listener.put(event)
            if not listener._events.empty():
                promise(isinstance((await listener.get()).get("data", {}), dict), "an event whose data have another form")


def _events() -> Iterator[tuple[str, bytes]]:
    yield "reset", json.dumps({"event": "RESET", "data": {"guest": False, "reason": "host-qmp-system-reset"}}).encode()
    yield "disk", json.dumps({"event": "BLOCK_IO_ERROR", "data": {"node-name": "disk0", "operation": "write", "action": "stop"}}).encode()


QEMU = (QemuError,)
TARGETS = [
    Target("qmp_stream", stream, QEMU, _stream, is_json=True, bytes_max=4096),
    Target("qmp_answers", answers, QEMU, _answers, is_json=True),
    Target("qmp_events", events, (), _events, is_json=True),
]
