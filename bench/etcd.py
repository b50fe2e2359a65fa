# SPDX-License-Identifier: GPL-3.0-or-later
"""etcd: Debian's etcd-server, unpacked and not installed (installing would start a service), data on tmpfs.

The clients are one process that calls Put on the leader over gRPC, one connection for all of them, each on a key of
its own. Afterwards every member must hold every client's last value, and the same hash of everything.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from . import packages, processes
from .grpc import Channel, field, fields
from .load import BenchError, ClosedLoop, Figures, Load, command_of

NAME = "etcd"
DRIVEN = "clients in a process of their own, gRPC to the leader; its log and store are written to tmpfs"
ADDRESSES = ["127.0.0.1", "127.0.0.2", "127.0.0.3"]
CLIENT_PORT, PEER_PORT = 2379, 2380
READY_S = 20.0
CROSS_CHECK_S = 120.0
PUT, RANGE = "/etcdserverpb.KV/Put", "/etcdserverpb.KV/Range"
STATUS, HASH = "/etcdserverpb.Maintenance/Status", "/etcdserverpb.Maintenance/HashKV"


def binaries() -> Path:
    """Folder of etcd and etcdctl."""
    return packages.tree() / "usr/bin"


def version() -> str:
    text = subprocess.run([binaries() / "etcd", "--version"], capture_output=True, text=True, check=True).stdout
    return text.splitlines()[0].removeprefix("etcd Version: ")


def start_members(folder: Path) -> list[subprocess.Popen]:
    names = [f"m{n}" for n in range(3)]
    cluster = ",".join(f"{name}=http://{address}:{PEER_PORT}" for name, address in zip(names, ADDRESSES))
    out = []
    for name, address in zip(names, ADDRESSES):
        client, peer = f"http://{address}:{CLIENT_PORT}", f"http://{address}:{PEER_PORT}"
        with open(folder / f"{name}.log", "ab") as log:
            out.append(
                subprocess.Popen(
                    [
                        binaries() / "etcd",
                        "--name",
                        name,
                        "--data-dir",
                        folder / name,
                        "--initial-cluster",
                        cluster,
                        "--listen-client-urls",
                        client,
                        "--advertise-client-urls",
                        client,
                        "--listen-peer-urls",
                        peer,
                        "--initial-advertise-peer-urls",
                        peer,
                        "--logger",
                        "zap",
                        "--log-level",
                        "error",
                    ],
                    stdout=log,
                    stderr=log,
                    cwd=folder,
                )
            )
    return out


def run(folder: Path, loads: list[Load]) -> list[Figures]:
    members = start_members(folder)
    log, client = folder / "client.log", None
    try:
        client = processes.start("bench.etcd", {"loads": processes.pack_loads(loads)}, log)
        return processes.unpack_figures(processes.answer(client, processes.time_limit_s(loads), log)["figures"])
    finally:
        processes.kill([*members, *([client] if client else [])])


def leader() -> str:
    """The leader's address, once all three members name the same leader."""
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        try:
            states = {address: _status(address) for address in ADDRESSES}
        except OSError:
            states = {}
        leaders = {leader for _, leader in states.values()}
        if len(leaders) == 1 and 0 not in leaders:
            return next(address for address, (me, leader) in states.items() if me == leader)
        time.sleep(0.1)
    raise BenchError(f"etcd elected no leader within {READY_S:.0f} s")


def _status(address: str) -> tuple[int, int]:
    """(its own id, its leader's id or 0)"""
    channel = Channel(address, CLIENT_PORT)
    try:
        status = fields(channel.ask(channel.method(STATUS), b""))
    finally:
        channel.close()
    return fields(status[1])[2], status.get(4, 0)


def measure(channel: Channel, load: Load) -> tuple[Figures, int]:
    """The figures of one load, and the store's revision after it."""
    put, revision = channel.method(PUT), 0

    def submit(client: int, command: bytes) -> None:
        def answer(message: bytes) -> None:
            nonlocal revision
            revision = max(revision, fields(fields(message)[1])[3])
            loop.committed(*command_of(command))

        channel.call(put, field(1, key_of(client)) + field(2, command), answer)

    loop = ClosedLoop(load, submit)
    loop.start()
    while not loop.done:
        channel.wait()
    return loop.figures(), revision


def key_of(client: int) -> bytes:
    return b"plover/%d" % client


def check(figures: list[Figures], revision: int) -> None:
    """Checks that each put made one revision, and that all three members hold the same data."""
    total = sum(row.total for row in figures)
    if revision != 1 + total:
        raise BenchError(f"{total} commands counted as committed, but etcd is at revision {revision}")
    held = set()
    for address in ADDRESSES:
        channel = Channel(address, CLIENT_PORT)
        values = [channel.ask(channel.method(RANGE), field(1, key_of(client))) for client in range(figures[-1].clients)]
        last = tuple(command_of(fields(fields(value)[2])[5]) for value in values)  # kvs, value
        held.add((fields(channel.ask(channel.method(HASH), field(1, revision)))[2], last))
        channel.close()
    if len(held) != 1:
        raise BenchError("the members' stores differ")


def cross_check(load: str) -> list[str]:
    """The result of etcd's own load generator (Go) on an equally fresh group. Its load is rate-limited: see etcdctl."""
    with tempfile.TemporaryDirectory(prefix="plover-bench-", dir="/dev/shm") as folder:
        members = start_members(Path(folder))
        try:
            command = [binaries() / "etcdctl", "--endpoints", f"http://{leader()}:{CLIENT_PORT}", "check", "perf"]
            done = subprocess.run(
                [*command, "--load", load], capture_output=True, text=True, timeout=CROSS_CHECK_S, env={"ETCDCTL_API": "3"}
            )
        finally:
            processes.kill(members)
    lines = re.split(r"[\r\n]+", done.stdout + done.stderr)
    return [line.strip() for line in lines if line.strip() and "%" not in line][-8:]


def client(loads: list[Load]) -> dict:
    channel = Channel(leader(), CLIENT_PORT)
    figures, revision = [], 0
    for load in loads:
        row, revision = measure(channel, load)
        figures.append(row)
    channel.close()
    check(figures, revision)
    return {"figures": figures}


if __name__ == "__main__":
    print(json.dumps(client(processes.unpack_loads(json.loads(sys.argv[1])["loads"]))))
