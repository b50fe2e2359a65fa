# SPDX-License-Identifier: GPL-3.0-or-later
"""The QMP adapter: the only file that knows the qemu.qmp library."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..errors import QemuError
from . import answers

try:
    from qemu.qmp import ConnectError, ExecInterruptedError, QMPClient, QMPError, Runstate
except ImportError:
    HAS_LIBRARY = False
else:
    HAS_LIBRARY = True

COMMAND_TIMEOUT_S = 10.0
DISCONNECT_S = 1.0
EVENTS_MAX = 1000  # unread events of one listener
log = logging.getLogger("plover")
logging.getLogger("qemu.qmp").setLevel(logging.CRITICAL)


def check_library() -> None:
    """Raises QemuError if qemu.qmp is missing: before a QEMU is started that nobody could talk to."""
    if not HAS_LIBRARY:
        raise QemuError("the Python library qemu.qmp is missing; role 'runtime' installs it")


class Listener:
    """A bounded queue of events with some names, in order.

    The library's own listener keeps every event for ever, and each syncvm makes two or three.
    """

    def __init__(self, *names: str) -> None:
        self._names = names
        self._events: asyncio.Queue[dict[str, Any]] = asyncio.Queue(EVENTS_MAX)
        self.dropped = 0

    async def put(self, event: dict[str, Any]) -> None:
        """Called by the library, for every event."""
        if event["event"] not in self._names:
            return
        if self._events.full() or not isinstance(event.get("data", {}), dict):
            self.dropped += 1
        else:
            self._events.put_nowait(event)

    async def get(self) -> dict[str, Any]:
        return await self._events.get()

    def clear(self) -> None:
        """Called by the library when it drops the listener."""


class Qmp:
    """QMP of one QEMU. All errors are QemuError.

    If the connection breaks while QEMU lives, the next command connects again: otherwise the only copy of a VM might stay
    stopped for good. The last command on the broken connection may or may not have been done, as after a time-out.
    """

    def __init__(self, path: str) -> None:
        self._path, self._client, self.pid = path, _client(), 0
        self._listeners: list[Listener] = []
        self._dialling, self._giving = asyncio.Lock(), asyncio.Lock()
        self.connections = 1  # QEMU forgets the descriptors that it got over one that has broken
        self._closed = False

    @classmethod
    async def connect(cls, path: str, timeout_s: float) -> Qmp:
        """Connect to QEMU's socket, waiting until it is there."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        while True:
            out = cls(path)
            try:
                out.pid = await asyncio.to_thread(peer_pid, path)
                await asyncio.wait_for(out._client.connect(path), timeout_s)
                return out
            except (ConnectError, OSError, asyncio.TimeoutError) as error:
                if asyncio.get_running_loop().time() > deadline:
                    raise QemuError(f"QEMU did not answer on {path} within {timeout_s} s: {error}") from error
                await asyncio.sleep(0.02)

    async def _connect_again(self) -> None:
        async with self._dialling:
            if self._closed or self._client.runstate is Runstate.RUNNING:
                return
            await self._disconnect()
            pid = await asyncio.to_thread(peer_pid, self._path)
            if pid != self.pid:
                raise QemuError(f"QMP: QEMU (pid {self.pid}) is gone; {self._path} is that of process {pid}")
            client = _client()
            await client.connect(self._path)
            for listener in self._listeners:
                client.register_listener(listener)
            self._client = client
            self.connections += 1
            log.warning("QMP: the connection to QEMU (pid %d) had broken and was made again", pid)

    async def execute(self, command: str, **arguments: Any) -> Any:
        """QEMU's answer, in the form that qemu/answers.py gives for it."""
        return _checked(command, await self._execute(command, arguments, out_of_band=False))

    async def execute_out_of_band(self, command: str, **arguments: Any) -> Any:
        """The same, but answered even while QEMU's main loop is stuck. Few commands can do that."""
        return _checked(command, await self._execute(command, arguments, out_of_band=True))

    async def give(self, fd: int, command: str, **arguments: Any) -> Any:
        """Send a descriptor, then the command that takes it: ``getfd`` or ``add-fd``. Ours stays open."""
        async with self._giving:
            return await self._execute(command, arguments, out_of_band=False, fd=fd)

    async def give_socket(self, name: str) -> socket.socket:
        """A new connection to QEMU, whose end of it has a name there: ``fd:NAME``."""
        ours, qemus = socket.socketpair()
        try:
            with qemus:
                await self.give(qemus.fileno(), "getfd", fdname=name)
        except BaseException:
            ours.close()
            raise
        ours.setblocking(False)
        return ours

    async def give_listener(self, name: str, path: Path) -> None:
        """A UNIX socket at ``path``, in a folder of ours, on which QEMU will listen: there it is ``fd`` with this name."""
        path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as made:
            made.bind(str(path))
            path.chmod(0o600)
            await self.give(made.fileno(), "getfd", fdname=name)

    async def _execute(self, command: str, arguments: dict[str, Any], out_of_band: bool, fd: int = -1) -> Any:
        async def work() -> Any:
            if self._client.runstate is not Runstate.RUNNING:
                await self._connect_again()
            if fd >= 0:
                self._client.send_fd_scm(fd)
            return await self._client.execute(command, arguments or None, oob=out_of_band)

        try:
            return await asyncio.wait_for(work(), COMMAND_TIMEOUT_S)
        except asyncio.TimeoutError:  # an OSError from Python 3.11 on
            raise QemuError(f"QMP {command}: no answer within {COMMAND_TIMEOUT_S} s") from None
        except (QMPError, ExecInterruptedError, OSError) as error:
            raise QemuError(f"QMP {command}: {error}") from error

    async def ask(self, command: str, **kinds: type) -> dict[str, Any]:
        """A query. Raises QemuError unless its answer is an object with at least these keys, with values of these types."""
        answer = await self.execute(command)
        if not isinstance(answer, dict) or not all(isinstance(answer.get(key), kind) for key, kind in kinds.items()):
            raise QemuError(f"QMP {command}: QEMU's answer is not understood: {ascii(answer)[: answers.SHOWN]}")
        return answer

    async def execute_and_wait(self, command: str, event: str, **data: Any) -> None:
        """Execute ``command``, then wait for the ``event`` with this ``data``, which says that it has taken effect."""

        async def come(listener: Listener) -> None:
            while not data.items() <= (await listener.get()).get("data", {}).items():
                pass  # of another cause, e.g. the guest's own action

        with self.listening(event) as listener:
            await self.execute(command)
            try:
                await asyncio.wait_for(come(listener), COMMAND_TIMEOUT_S)
            except asyncio.TimeoutError:
                raise QemuError(f"QMP {command}: no {event} within {COMMAND_TIMEOUT_S} s") from None

    async def watch(self, events: tuple[str, ...], callback: Callable[[str, dict[str, Any]], None]) -> None:
        """Call ``callback(name, data)`` for each of these events, for good."""
        with self.listening(*events) as listener:
            while True:
                event = await listener.get()
                callback(event["event"], event.get("data", {}))

    @contextlib.contextmanager
    def listening(self, *events: str) -> Iterator[Listener]:
        """Events with these names; it survives a new connection."""
        listener = Listener(*events)
        self._listeners.append(listener)
        self._client.register_listener(listener)
        try:
            yield listener
        finally:
            self._listeners.remove(listener)
            self._client.remove_listener(listener)

    async def capabilities(self, **states: bool) -> None:
        await self.execute(
            "migrate-set-capabilities",
            capabilities=[{"capability": name.replace("_", "-"), "state": state} for name, state in states.items()],
        )

    async def close(self) -> None:
        """End the connection; also swallows the error that a dead QEMU left on it."""
        self._closed = True
        await self._disconnect()

    async def _disconnect(self) -> None:
        # The library raises its reader's error again here: a broken socket, but also ValueError or RecursionError after a
        # line without an end or deeply nested input. The connection is over either way.
        with contextlib.suppress(Exception):
            await asyncio.wait_for(self._client.disconnect(), DISCONNECT_S)


def _checked(command: str, answer: Any) -> Any:
    answers.check(command, answer)
    return answer


def _client() -> QMPClient:
    out = QMPClient("plover")
    out.events.event_filter = lambda event: False  # the library's default listener keeps what it accepts for ever
    return out


def peer_pid(path: str) -> int:
    """Pid of the process that listens on a UNIX socket: QEMU itself, whoever started it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(2.0)
        sock.connect(path)
        pid: int = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
        return pid
