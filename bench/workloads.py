# SPDX-License-Identifier: GPL-3.0-or-later
"""What the benchmarks of services ask of the guest, with real clients."""
from __future__ import annotations

import csv
import os
import subprocess
from typing import NamedTuple

from . import packages
from .hosts import GUEST_IP
from .load import BenchError

CLIENTS, VALUE_BYTES, KEYS = 64, 64, 10_000
PROBE_REQUESTS = 2_000
TIMEOUT_S = 120.0


class Served(NamedTuple):
    requests: int
    requests_per_s: float
    p50_ms: float
    p99_ms: float


class Redis(NamedTuple):
    """redis-benchmark, 64 connections."""

    command: str
    pipeline: int

    @property
    def name(self) -> str:
        return f"redis-{self.command}-p{self.pipeline}"

    def requests_for(self, seconds: float) -> int:
        """How many take about so long; asking is the warm-up as well."""
        return max(PROBE_REQUESTS, int(self.run(PROBE_REQUESTS).requests_per_s * seconds))

    def run(self, requests: int) -> Served:
        program = str(packages.tree() / "usr/bin/redis-benchmark")
        words = [program, "-h", GUEST_IP, "-c", str(CLIENTS), "-P", str(self.pipeline), "-t", self.command,
                 "-n", str(requests), "-d", str(VALUE_BYTES), "-r", str(KEYS), "--csv"]
        try:
            done = subprocess.run(words, env={**os.environ, **packages.libraries()}, capture_output=True, text=True,
                                  timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise BenchError(f"{self.name}: {requests} requests took longer than {TIMEOUT_S:.0f} s") from None
        rows = list(csv.DictReader(done.stdout.splitlines()))
        if done.returncode or len(rows) != 1:
            raise BenchError(f"redis-benchmark ended with status {done.returncode}: {done.stdout} {done.stderr}")
        row = rows[0]
        return Served(requests, float(row["rps"]), float(row["p50_latency_ms"]), float(row["p99_latency_ms"]))


WORKLOADS = {w.name: w for w in (Redis("set", 1), Redis("get", 1), Redis("set", 16), Redis("get", 16))}
