# SPDX-License-Identifier: GPL-3.0-or-later
"""`ploverctl rdma check`: can this host use ``transport: rdma``, and which port and GID would it choose, and why?

It does the same as the daemon, on the same card, with both ends on this host: register a ring, connect, write, read back.
"""

from __future__ import annotations

import mmap
import resource
import statistics
import time
from collections.abc import Callable
from typing import Any

from ..errors import PloverError, RdmaError
from .devices import Choice, Port, choose
from .library import (
    REMOTE_READ,
    REMOTE_WRITE,
    Card,
    Completion,
    Connection,
    Memory,
    Patience,
    Region,
    RingReader,
    status_name,
)

ROUNDS = 200
WAIT_S = 5.0


def check(ports: Callable[[], list[Port]], address: str, wanted: dict[str, Any]) -> dict[str, Any]:
    """``ports``: lists the ports; ``wanted``: the settings rdma_*. ``problems`` in the result is empty if all is well."""
    out: dict[str, Any] = {
        "address": address,
        "devices": [],
        "chosen": None,
        "memlock_mib": _memlock_mib(),
        "loopback_us": None,
        "problems": [],
    }
    try:
        found = ports()
        out["devices"] = [{**p._asdict(), "gids": [g._asdict() for g in p.gids]} for p in found]
        choice = choose(found, address, wanted["rdma_device"], wanted["rdma_port"], wanted["rdma_gid_index"])
        port = next(p for p in found if (p.device, p.number) == (choice.device, choice.port))
        out["chosen"] = {**choice._asdict(), "mtu": wanted["rdma_mtu"] or port.mtu}
        if 0 < port.mtu < wanted["rdma_mtu"]:
            out["problems"].append(f"rdma_mtu: {wanted['rdma_mtu']} is over the port's {port.mtu}; raise the interface's MTU, or set 0")
        out.update(_try(choice, wanted))
    except PloverError as error:
        out["problems"].append(str(error))
    return out


def _memlock_mib() -> int | None:
    """None: no limit."""
    soft, _hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    return None if soft == resource.RLIM_INFINITY else soft >> 20


def _try(choice: Choice, wanted: dict[str, Any]) -> dict[str, Any]:
    card = Card(choice.device, choice.port, choice.gid_index, wanted["rdma_mtu"])
    size = wanted["rdma_ring_mib"] << 20
    buffers = [mmap.mmap(-1, size) for _side in range(2)]
    theirs, mine = card.region(buffers[0], REMOTE_WRITE | REMOTE_READ), card.region(buffers[1])
    patience = Patience(wanted["rdma_timeout"], wanted["rdma_retry"])
    leader, follower = card.connection(16), card.connection(16)
    try:
        leader.connect(follower.address, 0, patience)
        follower.connect(leader.address, REMOTE_WRITE | REMOTE_READ, patience)
        place = Memory(theirs.memory.address, size, theirs.memory.rkey)
        times = _write_and_look(leader, place, mine, RingReader(buffers[0], size, 1), size)
    finally:
        for made in (leader, follower, theirs, mine):
            made.close()
        on_demand = card.on_demand
        card.close()
    return {
        "on_demand_paging": on_demand,
        "loopback_us": {"median": round(statistics.median(times), 1), "max": round(max(times), 1), "rounds": len(times)},
    }


def _write_and_look(leader: Connection, place: Memory, mine: Region, reader: RingReader, head: int) -> list[float]:
    times = []
    for number in range(1, ROUNDS + 1):
        began = time.perf_counter()
        written = leader.frame(mine, place, 1, reader.position, head, b"ping", number)
        if written is None:
            raise RdmaError("there is no room in a ring that has been read to its end")
        head, end = written, time.monotonic() + WAIT_S
        done: list[Completion] = []
        while not done and time.monotonic() < end:
            done = leader.poll(1_000_000)
        if not done or done[0].status:
            why = status_name(done[0].status) if done else "no answer"
            raise RdmaError(
                f"a write to ourselves fails: {why}; does the GID belong to this host, and does its firewall let UDP port 4791 "
                "(RoCE v2) pass?"
            )
        times.append(1e6 * (time.perf_counter() - began))
        if reader.next() != b"ping":
            raise RdmaError("a write to ourselves has succeeded, but its bytes are not there")
    return times


def show(reply: dict[str, Any]) -> str:
    lines = [
        f"{p['device']} port {p['number']}: {p['state']}, {p['link_layer']}, MTU {p['mtu']}"
        + "".join(f"\n  GID {g['index']}: {g['text']} {g['kind']} {g['interface']}" for g in p["gids"])
        for p in reply["devices"]
    ]
    chosen, loop = reply["chosen"], reply["loopback_us"]
    if chosen:
        lines.append(f"chosen: {chosen['device']} port {chosen['port']}, GID {chosen['gid_index']}: {chosen['why']}")
    if loop:
        lines.append(f"loopback: a frame is written in {loop['median']} us (median of {loop['rounds']}; most {loop['max']})")
        lines.append(f"memory that is not pinned: {'yes' if reply['on_demand_paging'] else 'not with this card'}")
    limit = reply["memlock_mib"]
    lines.append(f"memory that may be locked: {'no limit' if limit is None else f'{limit} MiB'} here, no limit in the daemon")
    return "\n".join([*lines, *(f"PROBLEM: {text}" for text in reply["problems"])])
