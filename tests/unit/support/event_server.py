# SPDX-License-Identifier: GPL-3.0-or-later
"""An HTTP server on loopback that answers as it is told, for hooks."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager

OK, BROKEN, LOST = b"HTTP/1.1 204 No Content\r\n\r\n", b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n", b"HTTP/1.0 404 Not Found\r\n\r\n"
REDIRECT = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/other\r\nContent-Length: 0\r\n\r\n"
HANGS, DRIPS, ENDLESS_HEAD, ENDLESS_BODY, CLOSES = "hangs", "drips", "endless head", "endless body", "closes"


class EventServer:
    """``answers``: one for each request; the last one for all others. ``bodies``, ``heads``: what came."""

    def __init__(self, answers, context=None):
        self.answers, self.heads, self.bodies = list(answers), [], []
        self._context, self.ended = context, threading.Event()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                sock, _address = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(sock,), daemon=True).start()

    def _answer(self, sock):
        try:
            if self._context:
                sock = self._context.wrap_socket(sock, server_side=True)
            head, body = _request(sock)
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            self.heads.append(head)
            self.bodies.append(body)
            self._say(sock, answer)
        except OSError:
            return  # the client went away
        finally:
            sock.close()

    def _say(self, sock, answer):
        if isinstance(answer, bytes):
            return sock.sendall(answer)
        if answer == ENDLESS_BODY:
            sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while answer != CLOSES and not self.ended.wait(0.02 if answer in (HANGS, DRIPS) else 0):
            if answer != HANGS:
                sock.sendall(b"1" if answer == DRIPS else b"x" * 65_536)

    def close(self):
        self.ended.set()
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


def _request(sock):
    said = b""
    while b"\r\n\r\n" not in said:
        said += sock.recv(65_536) or _gone()
    head, _end, body = said.partition(b"\r\n\r\n")
    length = next(int(line.split(b":")[1]) for line in head.lower().splitlines() if line.startswith(b"content-length"))
    while len(body) < length:
        body += sock.recv(65_536) or _gone()
    return head.decode(), body


def _gone():
    raise ConnectionResetError


@contextmanager
def event_server(*answers, context=None):
    out = EventServer(answers, context)
    try:
        yield out
    finally:
        out.close()
