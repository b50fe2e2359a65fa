# SPDX-License-Identifier: GPL-3.0-or-later
"""What the benchmarks of services ask of the guests, with real clients. Every figure is the client's own."""

from __future__ import annotations

import csv
import math
import os
import re
import subprocess
import tempfile
import urllib.request
from pathlib import Path
from typing import NamedTuple, Protocol

from . import packages
from .dns_guest import DOMAIN
from .hosts import GUEST_IP
from .load import BenchError

CLIENTS, VALUE_BYTES, KEYS = 64, 64, 10_000
BULK_BYTES, BULK_KEYS, PROBE_BULKS = 1 << 20, 4, 8
PROBE_REQUESTS, PROBE_PAGES, PROBE_TURNS = 2_000, 640, 50
DATABASE, DATABASE_CLIENTS, SCALE = "bank", 32, 5  # five branches: five transactions at most have all their locks at once
WARM_S = 2
TIMEOUT_S = 120.0
PAGE_TIMEOUT_S = 10.0


class Served(NamedTuple):
    requests: int
    requests_per_s: float
    p50_ms: float
    p99_ms: float


class Workload(Protocol):
    """``guest``: which one of guests.py it wants. ``throughput``: it keeps the guest busy, and its rate is part of the ratios;
    others are measured with one vCPU at 1 Gbit/s only. What is measured is :meth:`run`, with what :meth:`warm_up` returned."""

    guest: str
    throughput: bool

    @property
    def name(self) -> str: ...

    def warm_up(self, seconds: float) -> int:
        """Run for a moment. Returns how much of this workload takes about ``seconds``, in its own unit."""

    def run(self, amount: int) -> Served:
        """Raises BenchError if anything was not served."""


class Redis(NamedTuple):
    """redis-benchmark, 64 connections. Counted in requests."""

    command: str
    pipeline: int
    guest = "memory"
    throughput = True

    @property
    def name(self) -> str:
        return f"redis-{self.command}-p{self.pipeline}"

    def warm_up(self, seconds: float) -> int:
        return max(PROBE_REQUESTS, int(self.run(PROBE_REQUESTS).requests_per_s * seconds))

    def run(self, requests: int) -> Served:
        return redis(self.command, requests, CLIENTS, VALUE_BYTES, KEYS, self.pipeline)


class Turns(NamedTuple):
    """One client of Redis, one request after the other: what protection adds to the time of an answer. In requests."""

    guest = "memory"
    throughput = False
    name = "redis-one-client"

    def warm_up(self, seconds: float) -> int:
        return max(PROBE_TURNS, int(self.run(PROBE_TURNS).requests_per_s * seconds))

    def run(self, requests: int) -> Served:
        return redis("set", requests, 1, VALUE_BYTES, KEYS)


class Bulk(NamedTuple):
    """Values of 1 MiB to Redis, or from it, over one connection. Counted in values."""

    name: str
    command: str
    guest = "memory"
    throughput = False

    def warm_up(self, seconds: float) -> int:
        redis("set", PROBE_BULKS * BULK_KEYS, 1, BULK_BYTES, BULK_KEYS)  # by chance, but each key is written
        return max(PROBE_BULKS, int(self.run(PROBE_BULKS).requests_per_s * seconds))

    def run(self, values: int) -> Served:
        return redis(self.command, values, 1, BULK_BYTES, BULK_KEYS)


def redis(command: str, requests: int, clients: int, value_bytes: int, keys: int, pipeline: int = 1) -> Served:
    words = ("-c", clients, "-P", pipeline, "-t", command, "-n", requests, "-d", value_bytes, "-r", keys, "--csv")
    return parse_redis(client("usr/bin/redis-benchmark", "-h", GUEST_IP, *words), requests)


class Web(NamedTuple):
    """ab, 64 connections at a time; the guest's shop sells one thing a request and shows all it sold. In requests.
    ``keeps``: a connection serves many requests, not one."""

    name: str
    keeps: bool
    guest = "memory"

    @property
    def throughput(self) -> bool:
        return self.keeps

    def warm_up(self, seconds: float) -> int:
        return max(PROBE_PAGES, int(self.run(PROBE_PAGES).requests_per_s * seconds))

    def run(self, requests: int) -> Served:
        before = sold()
        with tempfile.NamedTemporaryFile("r", suffix=".csv") as centiles:
            options = ("-q", *["-k"] * self.keeps, "-l", "-c", CLIENTS, "-n", requests, "-e", centiles.name)
            out = client("usr/bin/ab", *options, f"http://{GUEST_IP}/")
            served = parse_ab(out, centiles.read(), requests, self.keeps)
        if (after := sold()) <= before + requests:
            raise BenchError(f"{self.name}: {requests} pages came, and the shop's counter went from {before} to {after}")
        return served


class Dns(NamedTuple):
    """dnsperf, 64 clients with a question each at a time, over UDP. Each name is asked for once. In questions."""

    guest = "memory"
    throughput = False
    name = "dns"

    def warm_up(self, seconds: float) -> int:
        return max(PROBE_REQUESTS, int(self.run(PROBE_REQUESTS).requests_per_s * seconds))

    def run(self, requests: int) -> Served:
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as questions:
            questions.writelines(f"h{n}.{DOMAIN} A\n" for n in range(requests))
            questions.flush()
            words = ("-s", GUEST_IP, "-d", questions.name, "-n", 1, "-c", CLIENTS, "-q", CLIENTS, "-v")
            return parse_dnsperf(client("usr/bin/dnsperf", *words), requests)


class Postgres(NamedTuple):
    """pgbench's TPC-B-like script with 32 connections, a thread each so that they connect at once. Counted in seconds. The time
    that pgbench takes to connect is not in its figures, but the bytes sent meanwhile are in ours."""

    guest = "disk"
    throughput = True
    name = "pgbench-tpcb"

    def warm_up(self, seconds: float) -> int:
        said = self._pgbench("-t", 1)
        connecting_s = math.ceil(number("pgbench", r"^initial connection time = ([\d.]+) ms$", said) / 1000)
        self.run(connecting_s + WARM_S)
        return connecting_s + max(1, round(seconds))

    def run(self, seconds: int) -> Served:
        with tempfile.TemporaryDirectory() as folder:
            out = self._pgbench("-T", seconds, "-l", "--log-prefix", f"{folder}/log")
            return parse_pgbench(out, "".join(path.read_text() for path in Path(folder).iterdir()))

    def _pgbench(self, *options: str | int) -> str:
        return pgbench("-n", "-c", DATABASE_CLIENTS, "-j", DATABASE_CLIENTS, *options)


def pgbench(*options: str | int) -> str:
    return client("usr/lib/postgresql/15/bin/pgbench", "-h", GUEST_IP, "-U", "postgres", *options, DATABASE)


def client(program: str, *options: str | int) -> str:
    """What a program of the unpacked packages prints. Raises BenchError."""
    words = [str(packages.tree() / program), *map(str, options)]
    try:
        done = subprocess.run(words, env={**os.environ, **packages.libraries()}, capture_output=True, text=True, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise BenchError(f"{' '.join(words)} took longer than {TIMEOUT_S:.0f} s") from None
    if done.returncode:
        said = f"{done.stdout[-1000:]} {done.stderr[-1000:]}"
        raise BenchError(f"{' '.join(words)} ended with status {done.returncode}: {said}")
    return done.stdout


def sold() -> int:
    """The shop's counter, from its page."""
    try:
        with urllib.request.urlopen(f"http://{GUEST_IP}/", timeout=PAGE_TIMEOUT_S) as answer:
            page = answer.read().decode()
    except (OSError, ValueError) as error:
        raise BenchError(f"the guest's web server does not answer: {error}") from error
    found = re.search(r'<p id="sold">(\d+)</p>', page)
    if not found:
        raise BenchError(f"the guest's page has no counter: {page[:300]}")
    return int(found.group(1))


# ---- what the clients print -------------------------------------------------------------------------------------
def parse_redis(text: str, requests: int) -> Served:
    rows = list(csv.DictReader(text.splitlines()))
    try:
        (row,) = rows
        return checked(Served(requests, float(row["rps"]), float(row["p50_latency_ms"]), float(row["p99_latency_ms"])))
    except (ValueError, KeyError, TypeError) as error:
        raise BenchError(f"redis-benchmark printed no figures ({error!r}): {text[:300]}") from error


def parse_ab(text: str, centiles: str, requests: int, keeps: bool) -> Served:
    """``centiles``: the file of its option -e. Its printed centiles are whole milliseconds. ``keeps``: all connections had to go on."""
    if re.search(r"^Non-2xx responses: ", text, re.M):
        raise BenchError(f"ab got other answers than the page: {text}")
    wanted = {"Complete": requests, "Failed": 0, **({"Keep-Alive": requests} if keeps else {})}
    counts = {what: int(number("ab", rf"^{what} requests: +(\d+)$", text)) for what in wanted}
    if counts != wanted:
        kept = f", {counts['Keep-Alive']} left the connection open" if keeps else ""
        raise BenchError(f"ab: of {requests} requests {counts['Complete']} were complete, {counts['Failed']} failed{kept}")
    p50, p99 = (number("ab", rf"^{percent},([\d.]+)$", centiles) for percent in (50, 99))
    return checked(Served(requests, number("ab", r"^Requests per second: +([\d.]+) \[", text), p50, p99))


def parse_dnsperf(text: str, requests: int) -> Served:
    """With its option -v, which tells the latency of each answer in seconds."""
    latencies = sorted(1000 * float(seconds) for seconds in re.findall(r"^> NOERROR \S+ A (\d+\.\d+)$", text, re.M))
    if len(latencies) != requests or number("dnsperf", r"^ *Queries lost: +(\d+) ", text):
        raise BenchError(f"dnsperf: of {requests} questions {len(latencies)} were answered: {text[-1000:]}")
    rate = number("dnsperf", r"^ *Queries per second: +([\d.]+)$", text)
    return checked(Served(requests, rate, latencies[requests // 2], latencies[99 * requests // 100]))


def parse_pgbench(text: str, log: str) -> Served:
    """``log``: of its option -l, a transaction a line; the third field is its latency in microseconds."""
    done = int(number("pgbench", r"^number of transactions actually processed: (\d+)", text))
    if failed := number("pgbench", r"^number of failed transactions: (\d+)", text):
        raise BenchError(f"pgbench: {failed:.0f} transactions failed: {text}")
    try:
        latencies = sorted(int(line.split()[2]) / 1000 for line in log.splitlines())
    except (ValueError, IndexError) as error:
        raise BenchError(f"pgbench's log is none ({error}): {log[:300]}") from error
    if len(latencies) != done or not done:
        raise BenchError(f"pgbench: {done} transactions, and {len(latencies)} in its log")
    rate = number("pgbench", r"^tps = ([\d.]+) \(without initial connection time\)$", text)
    return checked(Served(done, rate, latencies[done // 2], latencies[99 * done // 100]))


def number(program: str, pattern: str, text: str) -> float:
    found = re.search(pattern, text, re.M)
    try:
        return float(found.group(1))
    except (AttributeError, ValueError):
        raise BenchError(f"{program} printed nothing like {pattern!r}: {text[:1000]}") from None


def checked(served: Served) -> Served:
    """What is divided by and shown on scales: finite and above zero."""
    if not all(math.isfinite(value) and value > 0 for value in served):
        raise BenchError(f"a client measured {served}")
    return served


WORKLOADS: dict[str, Workload] = {
    w.name: w
    for w in (
        *(Redis(command, pipeline) for pipeline in (1, 16) for command in ("set", "get")),
        Web("web-shop", keeps=True),
        Turns(),
        Web("web-connections", keeps=False),
        Bulk("redis-upload", "set"),
        Bulk("redis-download", "get"),
        Dns(),
        Postgres(),
    )
}
