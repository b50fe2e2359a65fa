# SPDX-License-Identifier: GPL-3.0-or-later
"""Two connections coupled: what comes in at one goes out at the other, in both directions, until one of them ends.

An end reads no faster than the other one takes it, so a stream holds a few hundred KiB at most. If one side stops sending, the
other one is told so. If a connection is lost, the other one is closed. Any transport of asyncio will do: TCP, a UNIX
socket, TLS over one of them. Where it can, a thread of the native library does it: with two plain sockets, and with TLS if both
ends have a key for that.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import cast

from ..native.buffers import NativeError
from ..native.couple import Couple

log = logging.getLogger("plover")

READ_BYTES_MAX = 64 << 10  # at a time: what else the loop has to do does not wait for long
HIGH_WATER_BYTES = 256 << 10
LINE_BYTES_MAX = 400
CLOSING_S_MAX = 5.0  # for the last bytes, after one side has ended
NATIVE = True  # False: a test wants the bytes to pass through here


class End(asyncio.BufferedProtocol):
    """One of the two connections. Before it is coupled, it may receive a line."""

    def __init__(self, on_made: Callable[[End], None] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_made = on_made
        self.on_lost: Callable[[], None] | None = None
        self._buffer = memoryview(bytearray(READ_BYTES_MAX))
        self._held = bytearray()  # what came before the coupling
        self._line: asyncio.Future[bytes] | None = None
        self._other: End | None = None
        self._couple: Couple | None = None
        self._side = 0  # of that
        self._holds = False  # nothing is read from this end
        self.key: bytes | None = None  # known to the other end of this TLS connection, too: once coupled, it goes on by this key
        self.dials = False  # then as the client
        self.transport: asyncio.Transport
        self.lost = self._at_end = False

    @classmethod
    def over(cls, transport: asyncio.Transport, rest: bytes) -> End:
        """Takes over a connection, and the bytes that its protocol has received but not used."""
        end = cls()
        end.connection_made(transport)
        transport.set_protocol(end)
        end._held += rest
        return end

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=HIGH_WATER_BYTES)
        if self._on_made:
            self._on_made(self)

    # ---- before it is coupled -------------------------------------------------------------------------------------
    async def line(self, seconds: float) -> bytes:
        """The first line, without its end. Raises EOFError, ValueError (it is too long) or asyncio.TimeoutError."""
        self._line = self._loop.create_future()
        self._look_for_line()
        return await asyncio.wait_for(self._line, seconds)

    def _look_for_line(self) -> None:
        if self._line is None or self._line.done():
            return
        at = self._held.find(b"\n", 0, LINE_BYTES_MAX)
        if at >= 0:
            self._line.set_result(bytes(self._held[:at]))
            del self._held[: at + 1]
        elif len(self._held) >= LINE_BYTES_MAX:
            self._line.set_exception(ValueError(f"a line of over {LINE_BYTES_MAX} bytes"))
        elif self.lost:
            self._line.set_exception(EOFError("it closed the connection"))

    @property
    def encrypted(self) -> bool:
        """By TLS, ours (secure_transport.py) or asyncio's."""
        return self.transport.get_extra_info("ssl_object") is not None

    @property
    def held_bytes(self) -> int:
        """What it said before it was coupled, and nobody has asked for."""
        return len(self._held)

    def last_words(self, line: str) -> None:
        """Say ``line`` and end the connection."""
        if not self.lost:
            self.transport.write(line.encode()[: LINE_BYTES_MAX - 1] + b"\n")
            self.end()

    # ---- coupling -----------------------------------------------------------------------------------------------
    def couple(self, other: End) -> None:
        """Both are closed if one has a key and cannot go on by it: that is what its other end expects."""
        if self.key or other.key:
            keyed, plain = (self, other) if self.key else (other, self)
            return keyed._go_on_by_key(plain)
        for end, opposite in ((self, other), (other, self)):
            end._other = opposite
            if opposite.lost:
                end.end()
        for end, opposite in ((self, other), (other, self)):
            if end._held and not opposite.lost:
                opposite.transport.write(bytes(end._held))
            end._held.clear()
        if not (self._is_plain() and other._is_plain() and self._left_to_thread(other)):
            self._resume()
            other._resume()

    def _go_on_by_key(self, plain: End) -> None:
        """What ``plain`` has said already goes first. From this end nothing may have come since its key was told."""
        ready = plain._is_plain() and not (self._held or self._is_busy())
        if not (ready and self._left_to_thread(plain, bytes(plain._held))):
            self.abort()
            plain.abort()

    def _left_to_thread(self, other: End, first: bytes = b"") -> bool:
        """Both connections go on without their transports. False: they go on as they were."""
        sockets: list[socket.socket] = [end.transport.get_extra_info("socket").dup() for end in (self, other)]
        try:
            self._side, other._side = 0, 1
            self._couple = other._couple = Couple(sockets[0], sockets[1], lambda: self._both_gone(other), self.key, self.dials, first)
        except (OSError, NativeError) as error:
            log.warning("a stream of a disk is not left to a thread of its own: %s", error)
            for sock in sockets:
                sock.close()
            return False
        for end in (self, other):
            end.transport.abort()
        return True

    def _is_plain(self) -> bool:
        """Are the socket's bytes ours as they are, and is nothing held back?"""
        return NATIVE and not (self.encrypted or self._is_busy())

    def _is_busy(self) -> bool:
        return self.lost or self.transport.is_closing() or self.transport.get_write_buffer_size() > 0

    def _both_gone(self, other: End) -> None:
        self._gone()
        other._gone()

    def hold(self) -> None:
        """Read nothing from this end until :meth:`go_on`; what it sends stays with it. It sends nothing at this moment."""
        self._holds = True
        if self._couple:
            self._couple.hold(self._side, True)
        elif not self.lost:
            self.transport.pause_reading()

    def go_on(self) -> None:
        self._holds = False
        if self._couple:
            self._couple.hold(self._side, False)
        else:
            self._resume()

    def abort(self) -> None:
        """At once; bytes that are under way are lost."""
        if self._couple:
            self._couple.close()
        elif not self.lost:
            self.transport.abort()

    def end(self) -> None:
        """Send what is held for this side, for a limited time, then close it."""
        if not self.lost and self._couple is None:
            self.transport.close()
            self._loop.call_later(CLOSING_S_MAX, self.abort)

    # ---- the transport's calls ------------------------------------------------------------------------------------
    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        data = bytes(self._buffer[:nbytes])  # a transport may keep it for later
        if self._other is not None:
            if not self._other.lost:
                self._other.transport.write(data)
            return
        self._held += data
        self._look_for_line()
        if len(self._held) >= LINE_BYTES_MAX:
            self.transport.pause_reading()  # until it is coupled

    def pause_writing(self) -> None:
        if self._other is not None and not self._other.lost:
            self._other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self._other is not None:
            self._other._resume()

    def _resume(self) -> None:
        if not (self.lost or self._holds or self.transport.is_closing()):
            self.transport.resume_reading()

    def eof_received(self) -> bool:
        """This side sends no more. May it still receive?"""
        self._at_end, other = True, self._other
        if other is None or other.lost or other._at_end or not (other.transport.can_write_eof() and self.transport.can_write_eof()):
            return False  # connection_lost() ends the other side. TLS knows no half of a connection
        other.transport.write_eof()
        self._loop.call_later(CLOSING_S_MAX, self.end)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        if self._couple is None:
            self._gone(exc)

    def _gone(self, exc: Exception | None = None) -> None:
        self.lost = True
        self._look_for_line()
        if self._other is not None and self._couple is None:
            self._other.abort() if exc else self._other.end()
        if self.on_lost:
            self.on_lost()
