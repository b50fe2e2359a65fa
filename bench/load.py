# SPDX-License-Identifier: GPL-3.0-or-later
"""The load for every system: clients with one command of 1 KiB outstanding each, and the measurements."""

from __future__ import annotations

import statistics
import struct
import time
from collections.abc import Callable
from typing import NamedTuple

COMMAND_BYTES = 1024
_HEAD = struct.Struct("!IQ")
_PADDING = bytes(i * 37 & 255 for i in range(COMMAND_BYTES - _HEAD.size))


class BenchError(Exception):
    """A system did not do its job; its figures are worthless."""


class Load(NamedTuple):
    """``clients`` at once. Commits in the first ``warmup_s`` are ignored; commits in the next ``measure_s`` are measured."""

    clients: int
    warmup_s: float
    measure_s: float


class Figures(NamedTuple):
    """``commits`` per second over the measured time; latency of a command, from its submission to its commit."""

    clients: int
    commits_per_s: float
    p50_us: float
    p99_us: float
    total: int  # commands committed, warm-up and tail included


def command_of(data: bytes | memoryview) -> tuple[int, int]:
    """(client, number) of a command."""
    if len(data) != COMMAND_BYTES:
        raise BenchError(f"a command of {len(data)} bytes came out, {COMMAND_BYTES} went in")
    return _HEAD.unpack_from(data)


class ClosedLoop:
    """``submit(client, command)`` hands a command to the system; the system calls :meth:`committed` once for each."""

    def __init__(self, load: Load, submit: Callable[[int, bytes], None]) -> None:
        self.load, self.total, self.outstanding = load, 0, 0
        self._submit = submit
        self._numbers = [0] * load.clients
        self._began = [0.0] * load.clients
        self._latencies: list[float] = []

    def start(self) -> None:
        self._from = time.perf_counter() + self.load.warmup_s
        self._until = self._from + self.load.measure_s
        for client in range(self.load.clients):
            self._next(client)

    def _next(self, client: int) -> None:
        self._numbers[client] += 1
        self.outstanding += 1
        self._began[client] = time.perf_counter()
        self._submit(client, _HEAD.pack(client, self._numbers[client]) + _PADDING)

    def committed(self, client: int, number: int) -> None:
        now = time.perf_counter()
        if self._numbers[client] != number:
            raise BenchError(f"client {client}: command {number} committed, {self._numbers[client]} was outstanding")
        self.total += 1
        self.outstanding -= 1
        if self._from <= now < self._until:
            self._latencies.append(now - self._began[client])
        if now < self._until:
            self._next(client)

    @property
    def done(self) -> bool:
        return not self.outstanding

    def figures(self) -> Figures:
        if len(self._latencies) < 2:
            raise BenchError(f"{len(self._latencies)} commits in {self.load.measure_s} s with {self.load.clients} clients")
        centiles = statistics.quantiles(self._latencies, n=100, method="inclusive")
        return Figures(self.load.clients, len(self._latencies) / self.load.measure_s, centiles[49] * 1e6, centiles[98] * 1e6, self.total)
