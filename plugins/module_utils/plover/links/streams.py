# SPDX-License-Identifier: GPL-3.0-or-later
"""The streams of the disks: NBD between both replicas' QEMUs, over the members' own port.

    leader:  QEMU ─ UNIX socket ─ daemon ══ channel DISKS, one connection per disk ══ daemon ─ UNIX socket ─ QEMU  :secondary

The leader dials a connection for each disk and says ``copy NAME``: the name that the secondary told it for this copy. The
secondary makes its images ready, connects to its QEMU, and answers ``ready``, or why not. Then bytes flow. By channel DISKS_KEYED and
TLS the answer is ``ready KEY``, 32 random bytes in hex: with them a thread of the native library begins TLS anew on the same
connection (native/couple.py), as Python's own cannot be handed on. Both ends have proved who they are before that. The leader's
UNIX socket is there only while its QEMU connects, and for that QEMU alone. A stream that is lost does not come back: QEMU takes
the secondary's image for failed, as after any lost connection, and the secondary is dropped.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import socket
import struct
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from ..errors import QemuError
from ..native import couple
from ..protocol import wire
from . import relay
from .relay import End

log = logging.getLogger("plover")
ASK, READY, READY_KEY = b"copy ", b"ready", b"ready "
ASK_S_MAX = 2.0
READY_S_MAX = 15.0  # marks are written to the disk meanwhile
CONNECT_S_MAX = 2.0  # QEMU to us, us to QEMU
TOLD_AGAIN_S = 10.0
# Longer than a link's: a disk may be slow to take what it gets, and then nothing is acknowledged either. That a member is silent
# is noticed on its control link; the core then ends the copy, or drops the secondary.
UNANSWERED_MS = 60_000
_PEER = struct.Struct("3i")
_ERRORS = (OSError, EOFError, ValueError, asyncio.TimeoutError)


class Links(Protocol):
    """What is needed of links/peers.py."""

    on_stream: Callable[[str, int, End], None] | None

    def has_channel(self, member: str, channel: int) -> bool | None: ...

    async def dial_stream(self, other: str, channel: int) -> End: ...


class Export(NamedTuple):
    """The socket on which our QEMU, process ``pid``, serves its images."""

    path: Path
    pid: int


class Streams:
    """All streams of one member. ``export(name)``: makes the images ready for the copy ``name``; raises QemuError or OSError."""

    def __init__(
        self,
        links: Links,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        export: Callable[[str], Awaitable[Export]],
        disks: int,
    ) -> None:
        self._links, self._spawn, self._export, self._disks = links, spawn, export, disks
        self._ends: set[End] = set()  # of other members
        self._clients: set[End] = set()  # of our QEMU, as the leader's
        self._server: asyncio.AbstractServer | None = None
        self._path: Path | None = None
        self._told_at = float("-inf")
        self.refused, self.why = 0, ""
        links.on_stream = self._take

    def describe(self) -> dict[str, object]:
        return {"open": len(self._ends), "refused": self.refused, "last": self.why}

    # ---- the leader -------------------------------------------------------------------------------------------
    async def offer(self, other: str, name: str, path: Path, pid: int, let_in: Callable[[Path], None]) -> None:
        """The images of ``other`` for the copy ``name``, a stream for each disk, for our QEMU: see :meth:`hand_out`. Raises QemuError."""
        await self.hand_out(lambda: self._dial(other, name), path, pid, let_in)

    async def hand_out(self, dial: Callable[[], Awaitable[End]], path: Path, pid: int, let_in: Callable[[Path], None]) -> None:
        """Dial once for each disk. Our QEMU, process ``pid``, may then connect to ``path`` as often; ``let_in`` gives it the right
        to. Raises QemuError."""
        self.close()
        try:
            ready = [self._keep(await dial()) for _disk in range(self._disks)]
        except BaseException:
            self.close()
            raise
        self._path = path
        try:
            path.unlink(missing_ok=True)
            self._server = await asyncio.get_running_loop().create_unix_server(lambda: End(lambda end: self._hand(end, ready, pid)), path)
            let_in(path)
        except OSError as error:
            self.close()
            raise QemuError(f"{path}: cannot listen there for QEMU's connections to the secondary's disks: {error}") from error

    async def _dial(self, other: str, name: str) -> End:
        keyed = relay.NATIVE and self._links.has_channel(other, wire.DISKS_KEYED) and couple.can_tls()
        try:
            end = self._keep(await self._links.dial_stream(other, wire.DISKS_KEYED if keyed else wire.DISKS))
            end.transport.write(ASK + name.encode() + b"\n")
            said = await end.line(READY_S_MAX)
        except _ERRORS as error:
            raise QemuError(f"the disks of {other} cannot be reached: {str(error) or 'no answer in time'}; its log says more") from error
        if keyed and said.startswith(READY_KEY):
            end.key, end.dials = _key(said[len(READY_KEY) :]), True
        elif said != READY:
            raise QemuError(f"{other} does not make its disks ready for a copy: {said.decode(errors='replace')!r}; its log says more")
        return end

    def _hand(self, client: End, ready: list[End], pid: int) -> None:
        """QEMU has connected."""
        if _peer_of(client) != pid or not ready:
            client.abort()
            return
        self._clients.add(client)
        client.on_lost = lambda: self._clients.discard(client)
        client.couple(ready.pop())
        if not ready:
            self._stop_listening()

    def hold(self) -> None:
        """Whatever our QEMU writes from now on waits, on its way to the secondary, until :meth:`go_on`. No write is under way."""
        for client in self._clients:
            client.hold()

    def go_on(self) -> None:
        for client in list(self._clients):
            client.go_on()

    # ---- the secondary ----------------------------------------------------------------------------------------
    def _take(self, member: str, channel: int, end: End) -> None:
        if self._has_room(member, end):
            self._keep(end)
            self._spawn(self._serve(member, channel, end))

    def _has_room(self, member: str, end: End) -> bool:
        if len(self._ends) < 2 * self._disks:  # those of the copy before may not have ended yet
            return True
        self._refuse(member, end, f"{len(self._ends)} streams are open, and this VM has {self._disks} disks")
        return False

    async def carry(self, whence: str, end: End, export: Export) -> None:
        """``end`` is a plain connection to our images, which are ready (old_port.py)."""
        if not self._has_room(whence, end):
            return
        self._keep(end)
        try:
            end.couple(await _connect(export))
        except _ERRORS as error:
            self._refuse(whence, end, str(error) or "no answer in time")
        except BaseException:
            end.abort()
            raise

    async def _serve(self, member: str, channel: int, end: End) -> None:
        try:
            said = await end.line(ASK_S_MAX)
            if not said.startswith(ASK):
                raise ValueError("it does not say which copy it begins")
            export = await self._export(said[len(ASK) :].decode("ascii", "replace"))
            ours = await _connect(export)
            if channel == wire.DISKS_KEYED and end.encrypted and couple.can_tls():
                end.key = secrets.token_bytes(couple.KEY_BYTES)
            end.transport.write((READY_KEY + end.key.hex().encode() if end.key else READY) + b"\n")
            end.couple(ours)
        except (QemuError, *_ERRORS) as error:
            self._refuse(member, end, str(error) or "no answer in time")
        except BaseException:
            end.abort()
            raise

    def _refuse(self, member: str, end: End, why: str) -> None:
        self.refused, self.why = self.refused + 1, f"{member}: {why}"[:200]
        now = asyncio.get_running_loop().time()
        if now - self._told_at >= TOLD_AGAIN_S:
            self._told_at = now
            log.warning("a stream of %s to this host's disks is refused: %s (%d refused so far)", member, why, self.refused)
        end.last_words(why)

    # ---- both ---------------------------------------------------------------------------------------------------
    def _keep(self, end: End) -> End:
        if end.lost:
            return end
        self._ends.add(end)
        end.on_lost = lambda: self._ends.discard(end)
        sock = end.transport.get_extra_info("socket")
        if sock is not None and sock.family == socket.AF_INET:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNANSWERED_MS)
        return end

    def _stop_listening(self) -> None:
        if self._server:
            self._server.close()
            self._server = None
        if self._path:
            with contextlib.suppress(OSError):
                self._path.unlink()
            self._path = None

    def close(self) -> None:
        """Cut all streams, at once."""
        self._stop_listening()
        for end in list(self._ends):
            end.abort()


def _key(told: bytes) -> bytes:
    """Raises QemuError."""
    try:
        key = bytes.fromhex(told.decode("ascii"))
    except ValueError:
        key = b""
    if len(key) != couple.KEY_BYTES:
        raise QemuError(f"its disks are ready, but not its key, which has {len(key)} bytes instead of {couple.KEY_BYTES}")
    return key


def _peer_of(end: End) -> int:
    """Pid of the process at the other end of a UNIX socket; of a listening socket, its owner's."""
    sock = end.transport.get_extra_info("socket")
    return int(_PEER.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))[0])


async def _connect(export: Export) -> End:
    """To our QEMU. Whatever else may have taken the socket's place is not spoken to."""
    _transport, end = await asyncio.wait_for(asyncio.get_running_loop().create_unix_connection(End, str(export.path)), CONNECT_S_MAX)
    if _peer_of(end) != export.pid:
        end.abort()
        raise OSError(f"{export.path} is not our QEMU's")
    return end
