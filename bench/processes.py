# SPDX-License-Identifier: GPL-3.0-or-later
"""Members and clients are separate processes. They take their task as JSON and report the result as JSON."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from lab.paths import ROOT

from .load import BenchError, Figures, Load

STOP_S = 10.0


def start(module: str, spec: dict, log: Path) -> subprocess.Popen:
    """``python -m module SPEC``, its errors into ``log``, its standard output into a pipe."""
    with open(log, "ab") as file:
        return subprocess.Popen([sys.executable, "-m", module, json.dumps(spec)], stdout=subprocess.PIPE, stderr=file, cwd=ROOT)


def answer(process: subprocess.Popen, timeout_s: float, log: Path) -> dict:
    """End the process if it still runs, and read the JSON object that it printed last."""
    try:
        out, _ = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        raise BenchError(f"{process.args[2]} did not end within {timeout_s:.0f} s, see {log}") from None
    if process.returncode:
        raise BenchError(f"{process.args[2]} ended with status {process.returncode}; the end of {log}:\n{tail(log)}")
    return json.loads(out.splitlines()[-1])


def tail(log: Path, lines: int = 15) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


def terminate(processes: Sequence[subprocess.Popen]) -> None:
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)


def kill(processes: Sequence[subprocess.Popen]) -> None:
    """Ends the remaining processes."""
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.wait(STOP_S)


def time_limit_s(loads: Sequence[Load]) -> float:
    """Long enough for an overloaded machine, short enough to notice a system that hangs."""
    return 30.0 + 3 * sum(load.warmup_s + load.measure_s for load in loads)


def pack_loads(loads: Sequence[Load]) -> list[list[float]]:
    return [list(load) for load in loads]


def unpack_loads(data: list[list[float]]) -> list[Load]:
    return [Load(int(clients), *times) for clients, *times in data]


def unpack_figures(data: list[list[float]]) -> list[Figures]:
    return [Figures(*row) for row in data]
