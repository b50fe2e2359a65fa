# SPDX-License-Identifier: GPL-3.0-or-later
"""Clients of a PostgreSQL in a guest, which know exactly which commits were acknowledged.

Runs in the client's namespace: `python3 -m lab.pg_client --host IP --out FILE`; SIGTERM ends the load, then everything is
read back and checked (lab/pg_history.py). Transactions are TPC-B's, as pgbench has them, each with an id of its own in
`history`. That column's index is not unique on purpose: a transaction done twice must be seen, not refused.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import signal
import socket
import sys
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pg8000.exceptions import DatabaseError, Error, InterfaceError
from pg8000.native import Connection

from .pg_history import Found, Recorder, judge

PORT = 5432
DATABASE = "bank"
DURATION_S_MAX = 3600.0
CONNECT_S = 5.0  # a lost SYN is sent again later and later; a new attempt is quicker
AVAILABLE_WITHIN_S = 120.0
CHECK_TIMEOUT_S = 120.0
BRANCHES, TELLERS, ACCOUNTS = 6, 60, 6000
NOT_YET = ("57P03", "57P01")  # starting up, shutting down
SCHEMA = f"""
DROP TABLE IF EXISTS accounts, tellers, branches, history;
CREATE TABLE branches (bid int PRIMARY KEY, balance bigint NOT NULL, filler char(88));
CREATE TABLE tellers (tid int PRIMARY KEY, bid int NOT NULL, balance bigint NOT NULL, filler char(84));
CREATE TABLE accounts (aid int PRIMARY KEY, bid int NOT NULL, balance bigint NOT NULL, filler char(84));
CREATE TABLE history (id text NOT NULL, tid int, bid int, aid int, delta bigint NOT NULL, at timestamptz);
CREATE INDEX history_id ON history (id);
INSERT INTO branches SELECT n, 0, '' FROM generate_series(1, {BRANCHES}) n;
INSERT INTO tellers SELECT n, n % {BRANCHES} + 1, 0, '' FROM generate_series(1, {TELLERS}) n;
INSERT INTO accounts SELECT n, n % {BRANCHES} + 1, 0, '' FROM generate_series(1, {ACCOUNTS}) n;
CREATE EXTENSION IF NOT EXISTS amcheck;
"""
SUMS = """SELECT (SELECT sum(balance)::bigint FROM accounts), (SELECT sum(balance)::bigint FROM tellers),
(SELECT sum(balance)::bigint FROM branches), (SELECT coalesce(sum(delta), 0)::bigint FROM history)"""
INDEXES = """SELECT c.oid::regclass::text, c.oid::bigint FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
JOIN pg_am a ON a.oid = c.relam WHERE a.amname = 'btree' AND i.indisready AND i.indisvalid ORDER BY 1"""
HEAPS = """SELECT c.oid::regclass::text, v.blkno, v.offnum, v.msg FROM pg_class c,
LATERAL verify_heapam(c.oid, check_toast => true) v WHERE c.relkind IN ('r', 't', 'm') ORDER BY 1, 2, 3"""
CHECKSUMS = "SELECT coalesce(sum(checksum_failures), 0)::bigint FROM pg_stat_database"


class Server:
    """The address of the server, and how long to wait for an answer."""

    def __init__(self, host: str, answer_s: float) -> None:
        self.host, self.answer_s = host, answer_s

    def connect(self, answer_s: float | None = None) -> Connection:
        """Retries a refused connection, for as long as a host may take to come back."""
        end = time.monotonic() + AVAILABLE_WITHIN_S
        while True:
            try:
                return self._connect(answer_s or self.answer_s)
            except (OSError, Error) as error:
                refused = isinstance(error, DatabaseError) and error.args[0].get("C") not in NOT_YET
                if refused or time.monotonic() > end:
                    raise
            time.sleep(0.2)

    def _connect(self, answer_s: float) -> Connection:
        sock = socket.create_connection((self.host, PORT), CONNECT_S)
        sock.settimeout(answer_s)
        return Connection("postgres", database=DATABASE, sock=sock, ssl_context=False)


def statements(name: str, dice: random.Random) -> list[str]:
    """All of a transaction but its COMMIT. Tables always in this order and one row of each: no deadlock."""
    account, teller, branch = dice.randint(1, ACCOUNTS), dice.randint(1, TELLERS), dice.randint(1, BRANCHES)
    delta = dice.randint(-5000, 5000)
    return [
        "BEGIN",
        f"UPDATE accounts SET balance = balance + {delta} WHERE aid = {account}",
        f"SELECT balance FROM accounts WHERE aid = {account}",
        f"UPDATE tellers SET balance = balance + {delta} WHERE tid = {teller}",
        f"UPDATE branches SET balance = balance + {delta} WHERE bid = {branch}",
        f"INSERT INTO history VALUES ('{name}', {teller}, {branch}, {account}, {delta}, now())",
    ]


def transaction(connection: Connection, recorder: Recorder, client: int, dice: random.Random) -> None:
    name = recorder.begin(client)
    for statement in statements(name, dice):
        connection.run(statement)
    recorder.committing(name)
    connection.run("COMMIT")
    recorder.acknowledged(name, time.monotonic())


def close(connection: Connection) -> None:
    with contextlib.suppress(OSError, Error):
        connection.close()


def work(server: Server, recorder: Recorder, client: int, pause_s: float, ending: threading.Event) -> None:
    """One client. It never retries a transaction, whatever goes wrong: an id stands for one attempt."""
    dice = random.Random(f"{recorder.run}.{client}")
    connection = server.connect()
    while not ending.is_set():
        try:
            transaction(connection, recorder, client, dice)
        except DatabaseError as refusal:
            recorder.refusals.append(str(refusal.args[0].get("M")))
            close(connection)
            connection = server.connect()
        except (OSError, InterfaceError):
            recorder.broken += 1
            close(connection)
            connection = server.connect()
        ending.wait(pause_s)
    close(connection)


def amcheck(connection: Connection) -> list[str]:
    """Every index against its table, every table in itself."""
    problems = []
    for name, number in connection.run(INDEXES):
        try:
            connection.run(f"SELECT bt_index_check({number}, true)")
        except DatabaseError as error:
            problems.append(f"amcheck, index {name}: {error.args[0].get('M')}")
    try:
        problems += [
            f"amcheck, table {table}, block {block}, item {item}: {message}" for table, block, item, message in connection.run(HEAPS)
        ]
    except DatabaseError as error:  # a page whose checksum is wrong is refused as a whole
        problems.append(f"amcheck, tables: {error.args[0].get('M')}")
    return problems


def read_back(server: Server) -> Found:
    connection = server.connect(CHECK_TIMEOUT_S)
    connection.run("SET enable_indexscan = off; SET enable_indexonlyscan = off; SET enable_bitmapscan = off")
    ids = [name for (name,) in connection.run("SELECT id FROM history")]
    sums = dict(zip(("accounts", "tellers", "branches", "history"), connection.run(SUMS)[0]))
    checks = amcheck(connection)
    ((failures,),) = connection.run(CHECKSUMS)
    close(connection)
    return Found(ids, sums, checks + ([f"{failures} pages with a wrong checksum were read"] if failures else []))


def load(server: Server, recorder: Recorder, clients: int, rate: float, seconds: float, ending: threading.Event) -> None:
    """Runs until ``ending`` is set, the time is over, or a client fails."""
    end = time.monotonic() + seconds
    with ThreadPoolExecutor(clients) as pool:
        tasks = [pool.submit(work, server, recorder, n, 1 / rate, ending) for n in range(clients)]
        while not ending.wait(1.0) and time.monotonic() < end and not any(task.done() for task in tasks):
            print(json.dumps({"acked": len(recorder.ack_times)}), flush=True)
        ending.set()
    for task in tasks:
        task.result()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", required=True)
    parser.add_argument("--clients", type=int, default=6)
    parser.add_argument("--rate", type=float, default=50.0, help="transactions per second and client, at most")
    parser.add_argument("--seconds", type=float, default=DURATION_S_MAX)
    parser.add_argument("--answer-seconds", type=float, default=30.0, help="a connection silent for so long is broken")
    parser.add_argument("--init", action="store_true", help="make the tables first")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    ending = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ending.set())
    server, recorder = Server(options.host, options.answer_seconds), Recorder(uuid.uuid4().hex[:12])
    if options.init:
        connection = server.connect(CHECK_TIMEOUT_S)
        connection.run(SCHEMA)
        close(connection)
    load(server, recorder, options.clients, options.rate, min(options.seconds, DURATION_S_MAX), ending)
    options.out.write_text(json.dumps(judge(recorder, read_back(server))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
