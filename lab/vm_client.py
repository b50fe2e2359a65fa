# SPDX-License-Identifier: GPL-3.0-or-later
"""Clients of a Debian guest (lab/debian_guest.py): downloads, short connections, and one long SSH session.

Runs in the clients' namespace: `python3 -m lab.vm_client --host IP --key FILE --out FILE`; SIGTERM ends the load. Nothing is tried
again: a download that ends early or has other bytes, a request without its answer, a session that ends, each counts as broken.
The session also asks for the guest's clock, and a time server for the guest runs beside it.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import json
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from .debian_guest import DOWNLOAD_MIB, download_sha256

DURATION_S_MAX = 900.0
PATIENCE_S = 60.0  # a client's, for one answer
DOWNLOADERS, LINE_S = 2, 0.1
ECHO = "while read -r line; do echo $line $EPOCHREALTIME; done"
NTP_PORT, NTP_EPOCH_S = 123, 2_208_988_800  # seconds from 1900 to 1970 (RFC 5905)


class Tally:
    """Accounting only: no socket, no clock."""

    def __init__(self) -> None:
        self.done: dict[str, int] = {"downloads": 0, "requests": 0, "lines": 0}
        self.broken: dict[str, int] = {"downloads": 0, "requests": 0, "sessions": 0}
        self.problems: list[str] = []
        self.answers: list[float] = []  # when short requests and lines were answered
        self.clock: list[tuple[float, float, float]] = []  # when; the guest's clock minus ours, and how sure: s

    def breaks(self, what: str, why: object) -> None:
        self.broken[what] += 1
        self.problems.append(f"{what}: {why!r}")

    def gap_ms(self) -> int:
        """The longest time without any answer."""
        times = sorted(self.answers)
        return round(1000 * max((b - a for a, b in zip(times, times[1:])), default=0.0))

    def result(self) -> dict:
        counts = {f"{what}_broken": count for what, count in self.broken.items()}
        return {**self.done, **counts, "outage_ms": self.gap_ms(), "clock": self.clock, "problems": self.problems[:20]}


class Load:
    def __init__(self, host: str, key: str) -> None:
        self.host, self.key, self.tally, self.over = host, key, Tally(), threading.Event()

    def page(self, path: str) -> bytes:
        """By a connection of its own."""
        connection = http.client.HTTPConnection(self.host, timeout=PATIENCE_S)
        try:
            connection.request("GET", path, headers={"Connection": "close"})
            answer = connection.getresponse()
            if answer.status != 200:
                raise OSError(f"status {answer.status}")
            return answer.read()
        finally:
            connection.close()

    def _repeat(self, what: str, once: Callable[[], None]) -> None:
        while not self.over.is_set():
            try:
                once()
            except (OSError, http.client.HTTPException) as error:
                self.tally.breaks(what, error)
                time.sleep(0.5)
            else:
                self.tally.done[what] += 1

    def download(self) -> None:
        body = self.page("/download")
        if (len(body), hashlib.sha256(body).hexdigest()) != (DOWNLOAD_MIB << 20, download_sha256()):
            raise OSError(f"{len(body)} other bytes")

    def request(self) -> None:
        if b"It works" not in self.page("/"):
            raise OSError("another page")
        self.tally.answers.append(time.monotonic())

    def session(self) -> None:
        """One SSH session for the whole time, with a line every now and then, which the guest says again with its clock."""
        ssh = subprocess.Popen(
            ["ssh", "-i", self.key, "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR",
             "-o", f"ConnectTimeout={PATIENCE_S:.0f}", "-o", "ServerAliveInterval=0", f"debian@{self.host}", ECHO],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
        )  # fmt: skip
        try:
            while not self.over.is_set():
                self._line(ssh)
                time.sleep(LINE_S)
        except OSError as error:
            self.tally.breaks("sessions", error)
        finally:
            ssh.kill()
            ssh.wait()

    def _line(self, ssh: subprocess.Popen[str]) -> None:
        number, began, before = self.tally.done["lines"], time.monotonic(), time.time()
        ssh.stdin.write(f"line-{number}\n")
        words = ssh.stdout.readline().split()
        took_s = time.monotonic() - began
        if len(words) != 2 or words[0] != f"line-{number}":
            raise OSError(f"line {number} came back as {words}")
        self.tally.done["lines"] += 1
        self.tally.answers.append(time.monotonic())
        self.tally.clock.append((before, float(words[1]) - before - took_s / 2, took_s / 2))

    def run(self) -> None:
        work = [lambda: self._repeat("downloads", self.download)] * DOWNLOADERS
        work += [lambda: self._repeat("requests", self.request), self.session]
        threads = [threading.Thread(target=each, daemon=True) for each in work]
        for thread in threads:
            thread.start()
        end = time.monotonic() + DURATION_S_MAX
        while not self.over.wait(1.0) and time.monotonic() < end:
            print(json.dumps({**self.tally.done, "broken": self.tally.broken}), flush=True)
        self.over.set()
        for thread in threads:
            thread.join(2 * PATIENCE_S)


def serve_time(address: str) -> None:
    """This machine's time, by NTP (RFC 5905 §7.3), to whoever asks; for ever."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((address, NTP_PORT))
        while True:
            asked, client = server.recvfrom(512)
            if len(asked) < 48:
                continue
            stamp = struct.pack("!Q", int((time.time() + NTP_EPOCH_S) * 2**32))
            head = struct.pack("!BBbbII4s", 0x24, 1, asked[2], -20, 0, 0, b"PLVR")
            server.sendto(head + stamp + asked[40:48] + stamp + stamp, client)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--time-server", required=True, metavar="IP", help="address at which to serve the time")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    load = Load(options.host, options.key)
    signal.signal(signal.SIGTERM, lambda *_: load.over.set())
    threading.Thread(target=serve_time, args=(options.time_server,), daemon=True).start()
    load.run()
    options.out.write_text(json.dumps(load.tally.result()) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
