# SPDX-License-Identifier: GPL-3.0-or-later
"""PySyncObj (pure Python, Raft): clients in the leader's process, journal and dump off, so memory only.

It is ticked by a loop of ours that waits on its poller, not by its thread (which would add a thread's switch to each
command). Of its two ways to send (each command at once; or what came within ``appendEntriesPeriod``, here as short as
pays) each load gets the better one, as measured: at once for one client, batches for many.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
import time
import zlib
from pathlib import Path

from . import processes
from .load import BenchError, ClosedLoop, Figures, Load, command_of

NAME = "pysyncobj"
DRIVEN = "clients in the leader's process, which ticks it; memory only"
ADDRESSES = [f"127.0.0.{n}:7520" for n in (1, 2, 3)]
READY_S = 20.0
END = b"end"
BATCH_PERIOD_S = 0.001


def version() -> str:
    return importlib.metadata.version("pysyncobj")


def run(folder: Path, loads: list[Load]) -> list[Figures]:
    """Runs each load on a separate group, as the settings differ; raises BenchError if the members' states differ."""
    return [figures for load in loads for figures in _run_group(folder, load)]


def _run_group(folder: Path, load: Load) -> list[Figures]:
    members, logs = [], [folder / f"pysyncobj-{n}.log" for n in range(3)]
    try:
        for n, log in enumerate(logs):
            members.append(processes.start("bench.pysync", {"me": n, "load": list(load)}, log))
        limit = processes.time_limit_s([load])
        ends = [processes.answer(member, limit, log) for member, log in zip(members, logs)]
    finally:
        processes.kill(members)
    states = [(end["commands"], end["crc"]) for end in ends]
    if len(set(states)) != 1:
        raise BenchError(f"the members' states differ: (commands, CRC) is {states}")
    figures = [Figures(*end["figures"]) for end in ends if end["figures"]]
    if len(figures) != 1 or figures[0].total != states[0][0]:
        raise BenchError(f"{states[0][0]} commands applied, but counted as committed: {figures}")
    return figures


def member(me: int, load: Load) -> dict:
    """One member; the elected leader runs the load. Ends when all three have applied the last command."""
    from pysyncobj import SyncObj, SyncObjConf, replicated

    batches = load.clients > 1

    class State(SyncObj):
        def __init__(self) -> None:
            self.commands = self.crc = self.ended = 0
            super().__init__(
                ADDRESSES[me],
                [a for a in ADDRESSES if a != ADDRESSES[me]],
                SyncObjConf(
                    bindAddress=ADDRESSES[me],
                    autoTick=False,
                    connectionRetryTime=0.1,
                    appendEntriesUseBatch=batches,
                    appendEntriesPeriod=BATCH_PERIOD_S if batches else 0.1,
                    logCompactionMinTime=3600,
                    logCompactionMinEntries=1 << 30,
                    raftMinTimeout=1.0 + me,
                    raftMaxTimeout=1.1 + me,
                ),
            )

        @replicated
        def apply(self, command: bytes) -> bytes:
            if command == END:
                self.ended = 1
            else:
                self.commands += 1
                self.crc = zlib.crc32(command, self.crc)
            return command

    state = State()
    deadline = time.monotonic() + READY_S
    while not (state.isReady() and state._getLeader()):
        state.doTick(0.01)
        if time.monotonic() > deadline:
            raise BenchError(f"no leader within {READY_S:.0f} s")
    figures = _lead(state, load) if state._isLeader() else None
    _finish(state, load)
    return {"commands": state.commands, "crc": state.crc, "figures": figures}


def _lead(state, load: Load) -> Figures:
    def committed(command: bytes | None, error: int) -> None:
        if command is None:
            raise BenchError(f"PySyncObj gave up a command with reason {error}")
        loop.committed(*command_of(command))

    loop = ClosedLoop(load, lambda client, command: state.apply(command, callback=committed))
    loop.start()
    while not loop.done:
        state.doTick(BATCH_PERIOD_S)
    state.apply(END)
    return loop.figures()


def _finish(state, load: Load) -> None:
    """Tick on until the last command is applied here, and a little longer for the others to hear of it."""
    deadline = time.monotonic() + processes.time_limit_s([load]) - 5
    while not state.ended:
        state.doTick(0.01)
        if time.monotonic() > deadline:
            raise BenchError("the last command did not come")
    until = time.monotonic() + 1.0
    while time.monotonic() < until:
        state.doTick(0.01)


if __name__ == "__main__":
    spec = json.loads(sys.argv[1])
    print(json.dumps(member(spec["me"], processes.unpack_loads([spec["load"]])[0])))
