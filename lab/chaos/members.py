# SPDX-License-Identifier: GPL-3.0-or-later
"""The three members as seen from the machine they run on: status, processes, journals. No ssh, so it is cheap.

A host's files are reached through /proc/PID/root of its first process; its processes are in its cgroup.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from pathlib import Path

from plover.ctl import client
from plover.errors import ControlError

from ..hosts import CGROUPS, HOSTS, Host, cgroup_name
from .voices import Term

VM = "demo"
REPLICAS = ("primary", "secondary")
DAEMON = {"primary": "plover-replica", "secondary": "plover-replica", "witness": "plover-witness"}
STATUS_TIMEOUT_S = 2.0
OPERATION_TIMEOUT_S = 40.0
_ELECTED = re.compile(r"(?:elected|leading again) in view (\d+)")


def first_process(host: str) -> int:
    """Pid of the host's own PID 1 as this machine counts; 0 if the host is off."""
    try:
        supervisor = int(Host(host).pid_file.read_text())
        for child in Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split():
            if re.search(r"^NSpid:.*\t1$", Path(f"/proc/{child}/status").read_text(), re.MULTILINE):
                return int(child)
    except (OSError, ValueError):
        pass
    return 0


def ask(host: str, command: str, timeout_s: float = STATUS_TIMEOUT_S) -> dict:
    """What `ploverctl COMMAND` asks the daemon, without the program; {} if nobody answers in time."""
    try:
        return client.ask(f"/proc/{first_process(host)}/root/run/plover/{VM}/ctl.sock", {"cmd": command}, timeout_s)
    except ControlError:
        return {}


def statuses() -> dict[str, dict]:
    return {host: ask(host, "status") for host in HOSTS}


def roles(seen: dict[str, dict]) -> dict[str, str]:
    """role -> host, if exactly one replica leads; else {}."""
    leaders = [host for host in REPLICAS if seen[host].get("role") == "leader"]
    if len(leaders) != 1:
        return {}
    other = next(host for host in REPLICAS if host != leaders[0])
    return {"leader": leaders[0], "secondary": other, "witness": "witness"}


def protected(seen: dict[str, dict]) -> bool:
    """All three members say so, in one view."""
    return (
        bool(roles(seen))
        and all(s.get("service") == "protected" for s in seen.values())
        and len({s["view"] for s in seen.values()}) == 1
        and seen[roles(seen)["secondary"]]["role"] == "secondary"
    )


def wait(condition, seconds: float, pause_s: float = 0.25) -> dict[str, dict] | None:
    """The statuses for which ``condition(statuses)`` first held, or None after ``seconds``."""
    end = time.monotonic() + seconds
    while True:
        seen = statuses()
        if condition(seen):
            return seen
        if time.monotonic() > end:
            return None
        time.sleep(pause_s)


def pids(host: str, unit: str) -> list[int]:
    """Processes of a unit of the host, as this machine counts."""
    unified = (CGROUPS / "cgroup.controllers").exists()
    top = (CGROUPS if unified else CGROUPS / "systemd") / cgroup_name(host)
    return [int(pid) for file in top.rglob(f"{unit}@{VM}.service/cgroup.procs") for pid in file.read_text().split()]


def send_signal(host: str, unit: str, number: signal.Signals) -> None:
    """Raises SystemExit if there is nobody to get it: then the fault was none."""
    found = pids(host, unit)
    if not found:
        raise SystemExit(f"chaos: {host} runs no {unit}@{VM}")
    for pid in found:
        os.kill(pid, number)


def resume(host: str) -> None:
    """Undo every SIGSTOP of ours."""
    for unit in (DAEMON[host], "plover-qemu"):
        for pid in pids(host, unit):
            try:
                os.kill(pid, signal.SIGCONT)
            except ProcessLookupError:
                continue


def journal(host: str, since: float, form: str = "short-iso-precise") -> str:
    """Plover's lines since ``since`` (CLOCK_REALTIME), also of boots before; works while the host is off."""
    folder = Host(host).root / "var/log/journal"
    done = subprocess.run(
        ["journalctl", "-q", f"--directory={folder}", "-u", "plover-*", f"--since=@{since:.6f}", "-o", form],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout


def terms() -> list[Term]:
    """Who was elected in which view since this lab was made, out of the journals."""
    out = []
    for host in REPLICAS:
        for line in journal(host, 0.0, "short-unix").splitlines():
            found = _ELECTED.search(line)
            if found:
                out.append(Term(int(found[1]), host, float(line.split()[0])))
    return out
