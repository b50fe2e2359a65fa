# SPDX-License-Identifier: GPL-3.0-or-later
"""A transport that encrypts: between a TCP transport of asyncio, whose protocol it is, and the protocol of a link.

asyncio's own TLS transport hides the TCP one, keeps a second buffer of what is to be sent, and must know in advance that a
connection is TLS. Here the limits, time-outs and the size of the send buffer are those of the TCP transport.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Union, cast

from ..errors import WireError
from .secure import Secure

Bytes = Union[bytes, bytearray, memoryview]  # noqa: UP007 (ansible-test takes the bars for an operator)


def _nothing(*_: Any) -> None:
    """The connection is lost."""


class SecureTransport(asyncio.Transport, asyncio.BufferedProtocol):
    """Takes over ``raw`` from ``protocol``, which gets its plain bytes from then on. The owner calls :meth:`begin` next.

    Callbacks: on_shaken() once the handshake is over (raises WireError to refuse the other end), on_error(WireError), which aborts.
    """

    def __init__(
        self,
        raw: asyncio.Transport,
        secure: Secure,
        protocol: asyncio.BufferedProtocol,
        on_shaken: Callable[[], None],
        on_error: Callable[[WireError], None],
    ) -> None:
        super().__init__()
        self._raw, self._secure, self._protocol = raw, secure, protocol
        self._on_shaken, self._on_error = on_shaken, on_error
        self._into = memoryview(b"")
        self._paused = self._ended = self._keeps = False
        raw.set_protocol(self)

    def begin(self, first: Bytes = b"") -> None:
        """``first``: bytes that have come already."""
        self._secure.feed(first)
        self._advance()

    def _advance(self) -> None:
        """The other end's bytes are with OpenSSL."""
        try:
            if self._secure.peer is None and not self._shake_hands():
                return
            self._deliver()
        except WireError as error:
            self._on_error(error)

    def _shake_hands(self) -> bool:
        try:
            over = self._secure.handshake()
        finally:  # in case of an error, to tell the other end
            self._raw.write(self._secure.take())
        if over:
            self._on_shaken()
        return over

    def _deliver(self) -> None:
        while not self._paused and not self._raw.is_closing():
            into = memoryview(cast(Any, self._protocol.get_buffer(-1)))
            got = self._secure.read(into)
            if not got:
                break
            self._protocol.buffer_updated(got)
        self._raw.write(self._secure.take())
        if self._secure.ended and not self._paused and not self._ended:
            self._ended = True
            self._keeps = bool(self._protocol.eof_received())
            if not self._keeps:
                self._raw.close()

    def _resumed(self) -> None:
        if not self._paused and not self._raw.is_closing():
            self._advance()

    # ---- the protocol of ``raw`` ------------------------------------------------------------------
    def get_buffer(self, sizehint: int) -> memoryview:
        """The protocol's own: OpenSSL copies from it before anything plain is put there."""
        self._into = memoryview(cast(Any, self._protocol.get_buffer(sizehint)))
        return self._into

    def buffer_updated(self, nbytes: int) -> None:
        self._secure.feed(self._into[:nbytes])
        self._advance()

    def eof_received(self) -> bool:
        """Anybody on the path can make this end; only TLS's own end mark counts as the other member's."""
        return self._keeps

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """The link and its transport let go of each other, so the link's buffers are freed now, not by a collector of cycles some day."""
        protocol, self._protocol = self._protocol, asyncio.BufferedProtocol()
        self._on_shaken, self._on_error = _nothing, _nothing
        protocol.connection_lost(exc)

    # ---- a transport ------------------------------------------------------------------------------
    def write(self, data: Bytes) -> None:
        self.writelines((data,))

    def writelines(self, list_of_data: Iterable[Bytes]) -> None:
        try:
            for part in self._secure.seal(list_of_data):
                self._raw.write(part)
        except WireError as error:
            self._on_error(error)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = cast(asyncio.BufferedProtocol, protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def pause_reading(self) -> None:
        if not self._paused and not self._raw.is_closing():
            self._paused = True
            self._raw.pause_reading()

    def resume_reading(self) -> None:
        if self._paused and not self._raw.is_closing():
            self._paused = False
            self._raw.resume_reading()
            asyncio.get_running_loop().call_soon(self._resumed)  # what is with OpenSSL already

    def is_reading(self) -> bool:
        return self._raw.is_reading()

    def finish(self) -> None:
        """Nothing is written after this. The other end learns that this is all; what it sends still comes."""
        try:
            self._secure.end()
        except WireError as error:
            self._on_error(error)
        self._raw.write(self._secure.take())

    def can_write_eof(self) -> bool:
        return False

    def write_eof(self) -> None:
        raise NotImplementedError

    def is_closing(self) -> bool:
        return self._raw.is_closing()

    def close(self) -> None:
        self._raw.close()

    def abort(self) -> None:
        self._raw.abort()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """As asyncio's own TLS transport: by ``ssl_object`` one knows that what goes through the socket is encrypted (relay.py)."""
        return self._secure.tls if name == "ssl_object" else self._raw.get_extra_info(name, default)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._raw.set_write_buffer_limits(high, low)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._raw.get_write_buffer_limits()

    def get_write_buffer_size(self) -> int:
        return self._raw.get_write_buffer_size()
