# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes a known number of pages in the guest, over the network: one command to its Redis, one answer."""

from __future__ import annotations

import socket

from lab.client import command

from .hosts import GUEST_IP
from .load import BenchError

PORT, TIMEOUT_S = 6379, 120.0
PAGE_BYTES, KEY = 4096, "pages"
# One script and not a command per page: a syncvm begins when the VM is idle with an answer to send, so all its writes fall
# between two syncvms. Each writes eight bytes of another page of one long string.
SCRIPT = """for page = 0, tonumber(ARGV[1]) - 1 do redis.call('SETRANGE', KEYS[1], page * 4096, ARGV[2]) end
return tonumber(ARGV[1])"""


class PageWriter:
    def __init__(self, pages_max: int) -> None:
        """Makes the string, so that later writes find it where it is."""
        self._sock = socket.create_connection((GUEST_IP, PORT), TIMEOUT_S)
        self._sock.settimeout(TIMEOUT_S)
        self._round = 0
        self.command("CONFIG", "SET", "maxmemory", "0", "lua-time-limit", "0")
        if pages_max:
            self.command("SETRANGE", KEY, str(pages_max * PAGE_BYTES - 1), "x")

    def write(self, pages: int) -> None:
        self._round += 1
        said = self.command("EVAL", SCRIPT, "1", KEY, str(pages), f"{self._round:08}")
        if said != f":{pages}":
            raise BenchError(f"the guest was to write {pages} pages and says {said!r}")

    def command(self, *words: str) -> str:
        """The answer's first line; raises BenchError if it is an error or none comes."""
        try:
            self._sock.sendall(command(*words))
            data = b""
            while not data.endswith(b"\r\n"):
                chunk = self._sock.recv(4096)
                if not chunk:
                    raise BenchError(f"the guest's Redis closed the connection at {words[0]}")
                data += chunk
        except OSError as error:
            raise BenchError(f"the guest's Redis does not answer {words[0]}: {error}") from error
        line = data.split(b"\r\n")[0].decode(errors="replace")
        if line.startswith("-"):
            raise BenchError(f"the guest's Redis refuses {words[0]}: {line}")
        return line

    def close(self) -> None:
        self._sock.close()
