# SPDX-License-Identifier: GPL-3.0-or-later
"""The protected VM and its clients before and after an attack, and what the attack has cost them."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import NamedTuple

from ..__main__ import execute
from ..chaos import members
from ..hosts import HOSTS
from .outcome import COPIES, DAEMONS, VIEW

PROTECTED_S_MAX = 90.0
SETTLE_S = 1.0
WAIT_MS_MAX = 12_000  # clients wait no longer for an answer; far above what a busy machine costs, with the settings of stage.py
UNITS = f"plover-replica@{members.VM} plover-witness@{members.VM} plover-qemu@{members.VM}"


class Snapshot(NamedTuple):
    """``pids``: (host, unit) -> its main process, as the host counts."""

    view: int
    leader: str
    pids: dict[tuple[str, str], str]

    def of(self, units: tuple[str, ...]) -> dict[tuple[str, str], str]:
        return {key: pid for key, pid in self.pids.items() if key[1].startswith(units)}


class Clients(NamedTuple):
    """What the load (lab/client.py) says after its end. ``error``: it did not end well."""

    acked: int
    lost: int
    outage_ms: int
    error: str = ""


def harms(before: Snapshot, after: Snapshot | None, clients: Clients, disturbs: frozenset[str]) -> list[str]:
    """What the attack has cost, a sentence each. ``after``: None if the group did not become protected again. Pure."""
    out = []
    if clients.error:
        out.append(f"what the clients were told is not known: {clients.error}")
    if clients.lost:
        out.append(f"{clients.lost} acknowledged writes are lost")
    if clients.outage_ms > WAIT_MS_MAX and VIEW not in disturbs:
        out.append(f"the clients had no answer for {clients.outage_ms} ms")
    if after is None:
        return [*out, "the VM is not protected any more"]
    if after.view != before.view and VIEW not in disturbs:
        out.append(f"a failover nobody asked for: view {before.view}, led by {before.leader}, became {after.view}, led by {after.leader}")
    if DAEMONS not in disturbs:
        out += _ended("the daemon", before.of(DAEMON_UNITS), after.of(DAEMON_UNITS))
    if not disturbs & {COPIES, VIEW}:
        out += _ended("the VM's copy", before.of(QEMU_UNITS), after.of(QEMU_UNITS))
    return out


DAEMON_UNITS, QEMU_UNITS = ("plover-replica", "plover-witness"), ("plover-qemu",)


def _ended(what: str, before: dict[tuple[str, str], str], after: dict[tuple[str, str], str]) -> list[str]:
    return [f"{what} on {host} was ended" for (host, unit), pid in before.items() if after.get((host, unit)) != pid]


# ---- looks at the real group ------------------------------------------------------------------------------------
def main_pid(host: str, unit: str) -> int:
    """As the host counts; 0 if it does not run."""
    said = execute(host, f"systemctl show -P MainPID {unit}").stdout.strip()
    return int(said) if said.isdigit() else 0


def snapshot(seconds: float = PROTECTED_S_MAX) -> Snapshot | None:
    """The group, once it is protected and still is a moment later; None after ``seconds``."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if members.wait(members.protected, left) is None:
            return None
        time.sleep(SETTLE_S)
        seen = members.statuses()
        if members.protected(seen):
            return Snapshot(max(s["view"] for s in seen.values()), members.roles(seen)["leader"], _pids())
    return None


def _pids() -> dict[tuple[str, str], str]:
    out = {}
    for host in HOSTS:
        said = execute(host, f"systemctl show -P MainPID {UNITS}").stdout.split()
        out.update({(host, unit): pid for unit, pid in zip(UNITS.split(), said) if pid != "0"})
    return out


def clients(path: Path, error: str | None) -> Clients:
    """Of the load's result file."""
    if error or not path.exists():
        return Clients(0, 0, 0, error or "they wrote no result")
    raw = json.loads(path.read_text())
    return Clients(raw["acked"], raw["lost"], raw["outage_ms"])


def statuses_in_a_line() -> str:
    return "; ".join(f"{host}: {s.get('sentence', 'no answer')}" for host, s in members.statuses().items())
