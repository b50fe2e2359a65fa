# SPDX-License-Identifier: GPL-3.0-or-later
"""The clients' figures are read as they print them, and whatever was not served is refused. The texts are recorded."""

from __future__ import annotations

import pytest

from bench.load import BenchError
from bench.workloads import WORKLOADS, Served, parse_ab, parse_dnsperf, parse_pgbench, parse_redis

REDIS = '''"test","rps","avg_latency_ms","min_latency_ms","p50_latency_ms","p95_latency_ms","p99_latency_ms","max_latency_ms"
"SET","2016.13","0.968","0.144","0.311","3.023","5.783","66.175"'''
AB = """Document Path:          /
Document Length:        Variable

Concurrency Level:      4
Time taken for tests:   0.216 seconds
Complete requests:      200
Failed requests:        0
Keep-Alive requests:    200
Total transferred:      421940 bytes
HTML transferred:       388540 bytes
Requests per second:    924.36 [#/sec] (mean)
Time per request:       4.327 [ms] (mean)
Time per request:       1.082 [ms] (mean, across all concurrent requests)
Transfer rate:          1904.42 [Kbytes/sec] received
"""
NOT_FOUND = """Concurrency Level:      4
Time taken for tests:   0.012 seconds
Complete requests:      20
Failed requests:        0
Non-2xx responses:      20
Keep-Alive requests:    0
Requests per second:    1720.28 [#/sec] (mean)
"""
CENTILES = """Percentage served,Time in ms
0,0.908
49,3.264
50,3.266
51,3.268
98,15.305
99,20.025
100,23.288
"""
PGBENCH = """pgbench (15.20 (Debian 15.20-0+deb12u1))
transaction type: <builtin: TPC-B (sort of)>
scaling factor: 5
query mode: simple
number of clients: 4
number of threads: 4
maximum number of tries: 1
number of transactions per client: 1
number of transactions actually processed: 4/4
number of failed transactions: 0 (0.000%)
latency average = 103.298 ms
initial connection time = 73.969 ms
tps = 38.722918 (without initial connection time)
"""
PGBENCH_LOG = """0 1 60522 0 1795639321 885760
1 1 64023 0 1795639321 889289
2 1 77095 0 1795639321 902373
3 1 53940 0 1795639321 879173
"""


DNSPERF = """> NOERROR h0.bench.test A 0.000213
> NOERROR h1.bench.test A 0.000206
> NOERROR h2.bench.test A 0.000331
[Status] Testing complete (end of file)

Statistics:

  Queries sent:         3
  Queries completed:    3 (100.00%)
  Queries lost:         0 (0.00%)

  Response codes:       NOERROR 3 (100.00%)
  Queries per second:   23400.023400
"""


def test_figures_are_those_that_the_clients_print():
    assert parse_redis(REDIS, 500) == Served(500, 2016.13, 0.311, 5.783)
    assert parse_ab(AB, CENTILES, 200, True) == Served(200, 924.36, 3.266, 20.025)
    closing = "".join(line for line in AB.splitlines(True) if "Keep-Alive requests" not in line)
    assert parse_ab(closing, CENTILES, 200, False) == Served(200, 924.36, 3.266, 20.025)
    assert parse_pgbench(PGBENCH, PGBENCH_LOG) == Served(4, 38.722918, 64.023, 77.095)
    assert parse_dnsperf(DNSPERF, 3) == Served(3, 23400.0234, 0.213, 0.331)
    timed = PGBENCH.replace("per client: 1", "duration: 1 s").replace("4/4", "4")
    assert parse_pgbench(timed, PGBENCH_LOG).requests == 4


@pytest.mark.parametrize(
    "text",
    [
        "",
        REDIS.splitlines()[0],
        REDIS + "\n" + REDIS.splitlines()[1],
        REDIS.replace("2016.13", "nan"),
        REDIS.replace("2016.13", "0.00"),
        REDIS.replace(',"66.175"', "").replace(',"5.783"', ""),
    ],
)
def test_what_redis_benchmark_did_not_measure_is_refused(text):
    with pytest.raises(BenchError):
        parse_redis(text, 500)


@pytest.mark.parametrize(
    "text, centiles, requests, problem",
    [
        ("", CENTILES, 200, "Complete"),
        (NOT_FOUND, CENTILES, 20, "other answers"),
        (AB, CENTILES, 201, "of 201 requests 200 were complete"),
        (AB.replace("Failed requests:        0", "Failed requests:        3"), CENTILES, 200, "3 failed"),
        (AB.replace("Keep-Alive requests:    200", "Keep-Alive requests:    199"), CENTILES, 200, "199 left"),
        (AB.replace("Requests per second", "Requests"), CENTILES, 200, "per second"),
        (AB, "", 200, "50"),
        (AB, CENTILES.replace("99,20.025", ""), 200, "99"),
        (AB, CENTILES.replace("20.025", "0.000"), 200, "measured"),
    ],
)
def test_what_ab_was_not_served_is_refused(text, centiles, requests, problem):
    with pytest.raises(BenchError, match=problem):
        parse_ab(text, centiles, requests, True)


@pytest.mark.parametrize(
    "text, log, problem",
    [
        ("", PGBENCH_LOG, "actually processed"),
        (PGBENCH.replace("failed transactions: 0", "failed transactions: 1"), PGBENCH_LOG, "1 transactions failed"),
        (PGBENCH, "", "4 transactions, and 0 in its log"),
        (PGBENCH, PGBENCH_LOG * 2, "4 transactions, and 8 in its log"),
        (PGBENCH, PGBENCH_LOG.replace("60522", "failed"), "log is none"),
        (PGBENCH.replace("processed: 4/4", "processed: 0"), "", "0 transactions"),
        (PGBENCH.replace("tps", "tpm"), PGBENCH_LOG, "tps"),
        (PGBENCH.replace("38.722918", "inf"), PGBENCH_LOG, "tps"),
    ],
)
def test_what_pgbench_did_not_do_is_refused(text, log, problem):
    with pytest.raises(BenchError, match=problem):
        parse_pgbench(text, log)


@pytest.mark.parametrize(
    "text, requests, problem",
    [
        ("", 3, "of 3 questions 0"),
        (DNSPERF, 4, "of 4 questions 3"),
        (DNSPERF.replace("NOERROR h1", "SERVFAIL h1"), 3, "of 3 questions 2"),
        (DNSPERF.replace("lost:         0", "lost:         1"), 3, "of 3 questions 3"),
        (DNSPERF.replace("per second", "a second"), 3, "per second"),
        (DNSPERF.replace("23400.023400", "0.0"), 3, "measured"),
    ],
)
def test_what_dnsperf_was_not_answered_is_refused(text, requests, problem):
    with pytest.raises(BenchError, match=problem):
        parse_dnsperf(text, requests)


def test_each_workload_has_a_guest():
    assert {w.guest for w in WORKLOADS.values()} == {"memory", "disk"}
    assert all(name == workload.name for name, workload in WORKLOADS.items())
