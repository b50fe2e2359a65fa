# SPDX-License-Identifier: GPL-3.0-or-later
"""A small HTTP server: GET and HEAD of a few paths, one request for each connection, everything bounded.

Who connects is a stranger until TLS says otherwise. So places, header bytes and time are limited before a byte is read, and no
address takes all places.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote

log = logging.getLogger("plover")
CONNECTIONS_MAX = 32
OF_ONE_ADDRESS_MAX = 8
STREAMS_MAX = 16  # of the connections, so that some are left for others
HEAD_BYTES_MAX = 8192
HEADERS_MAX = 64
QUERY_MAX = 8
HANDSHAKE_S = 5.0
HEAD_S = 5.0
ANSWER_S = 10.0
BACKLOG = 64
AGAIN_S = 0.2  # after an accept that failed
HEADERS = (
    "Connection: close",
    "Cache-Control: no-store",
    "X-Content-Type-Options: nosniff",
    "X-Frame-Options: DENY",
    "Referrer-Policy: no-referrer",
)
NOTHING_LOADS = "Content-Security-Policy: default-src 'none'; frame-ancestors 'none'"


class Request(NamedTuple):
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]  # names in lower case


class Answer(NamedTuple):
    status: HTTPStatus
    content_type: str
    body: bytes
    headers: tuple[str, ...] = ()
    stream: AsyncGenerator[bytes, None] | None = None  # what follows the body, without end


class BadRequestError(Exception):
    """The status says what is wrong with it."""

    def __init__(self, status: HTTPStatus) -> None:
        super().__init__(status.phrase)
        self.status = status


def parse(head: bytes) -> Request:
    """A request's head, without the empty line. Raises BadRequestError."""
    lines = head.decode("latin-1").split("\r\n")
    words = lines[0].split(" ")
    if len(words) != 3 or words[2] not in ("HTTP/1.0", "HTTP/1.1"):
        raise BadRequestError(HTTPStatus.BAD_REQUEST)
    if words[0] not in ("GET", "HEAD"):
        raise BadRequestError(HTTPStatus.METHOD_NOT_ALLOWED)
    if len(lines) > HEADERS_MAX:
        raise BadRequestError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
    headers = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip() or not line.isprintable():
            raise BadRequestError(HTTPStatus.BAD_REQUEST)
        headers[name.lower()] = value.strip()
    if "transfer-encoding" in headers or headers.get("content-length", "0") != "0":
        raise BadRequestError(HTTPStatus.BAD_REQUEST)
    path, _mark, query = words[1].partition("?")
    try:
        return Request(words[0], unquote(path, errors="strict"), dict(parse_qsl(query, max_num_fields=QUERY_MAX)), headers)
    except ValueError:
        raise BadRequestError(HTTPStatus.BAD_REQUEST) from None


def refusal(status: HTTPStatus) -> Answer:
    allow = ("Allow: GET, HEAD",) if status is HTTPStatus.METHOD_NOT_ALLOWED else ()
    return Answer(status, "text/plain; charset=utf-8", f"{status.value} {status.phrase}\n".encode(), allow)


def written(answer: Answer, body: bool = True) -> bytes:
    lines = [f"HTTP/1.1 {answer.status.value} {answer.status.phrase}", f"Content-Type: {answer.content_type}"]
    lines += [] if answer.stream else [f"Content-Length: {len(answer.body)}"]
    lines += HEADERS + answer.headers
    lines += ["", ""] if any(line.startswith("Content-Security-Policy") for line in lines) else [NOTHING_LOADS, "", ""]
    return "\r\n".join(lines).encode("latin-1") + (answer.body if body else b"")


class WebServer:
    def __init__(self, answer: Callable[[Request], Answer], tls: Callable[[], ssl.SSLContext] | None) -> None:
        """``tls``: the context for a new connection; it may raise an error for the log. None: plain HTTP."""
        self._answer, self._tls = answer, tls
        self._places: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._streams = 0
        self.turned_away = 0
        self.port = 0

    def listen(self, address: str, port: int) -> None:
        """Raises OSError."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._socket = socket.create_server((address, port), family=family, backlog=BACKLOG)
        self._socket.setblocking(False)
        self.port = self._socket.getsockname()[1]

    async def run(self) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                try:
                    connection, peer = await loop.sock_accept(self._socket)
                except OSError:
                    await asyncio.sleep(AGAIN_S)  # no descriptor is free, or the client is gone already
                    continue
                self._take(connection, peer[0])
        finally:
            self._socket.close()
            for task in self._tasks:
                task.cancel()

    def _take(self, connection: socket.socket, address: str) -> None:
        if self._places.total() >= CONNECTIONS_MAX or self._places[address] >= OF_ONE_ADDRESS_MAX:
            self.turned_away += 1
            return connection.close()
        self._places[address] += 1
        task = asyncio.ensure_future(self._serve(connection))
        self._tasks.add(task)
        task.add_done_callback(lambda task: self._gone(task, address))

    def _gone(self, task: asyncio.Task[None], address: str) -> None:
        self._tasks.discard(task)
        self._places[address] -= 1
        if not self._places[address]:
            del self._places[address]
        if not task.cancelled() and task.exception():
            log.error("a request failed: %r", task.exception())

    async def _serve(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        writer = None
        try:
            reader, writer = await asyncio.wait_for(self._open(connection), HANDSHAKE_S)
            answer = await self._read_and_answer(reader)
            writer.write(answer[0])
            await asyncio.wait_for(writer.drain(), ANSWER_S)
            if answer[1]:
                await self._stream(answer[1], writer)
        except (OSError, EOFError, asyncio.TimeoutError):
            pass  # a client that goes away, or makes no sense, harms only itself
        finally:
            await self._close(connection, writer)

    async def _open(self, connection: socket.socket) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        loop, reader = asyncio.get_running_loop(), asyncio.StreamReader(HEAD_BYTES_MAX)
        protocol = asyncio.StreamReaderProtocol(reader)
        transport, _protocol = await loop.connect_accepted_socket(lambda: protocol, connection, ssl=self._tls() if self._tls else None)
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)

    async def _stream(self, parts: AsyncGenerator[bytes, None], writer: asyncio.StreamWriter) -> None:
        if self._streams >= STREAMS_MAX:
            return
        self._streams += 1
        try:
            async with contextlib.aclosing(parts):
                async for part in parts:
                    writer.write(part)
                    await asyncio.wait_for(writer.drain(), ANSWER_S)
        finally:
            self._streams -= 1

    async def _read_and_answer(self, reader: asyncio.StreamReader) -> tuple[bytes, AsyncGenerator[bytes, None] | None]:
        try:
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), HEAD_S)
            request = parse(head[:-4])
        except asyncio.LimitOverrunError:
            return written(refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)), None
        except BadRequestError as error:
            return written(refusal(error.status)), None
        answer = self._answer(request)
        return written(answer, request.method == "GET"), answer.stream if request.method == "GET" else None

    @staticmethod
    async def _close(connection: socket.socket, writer: asyncio.StreamWriter | None) -> None:
        if writer is None:
            return connection.close()
        writer.close()
        with contextlib.suppress(OSError, asyncio.TimeoutError):
            await asyncio.wait_for(writer.wait_closed(), ANSWER_S)
        writer.transport.abort()
