# SPDX-License-Identifier: GPL-3.0-or-later
"""make demo-disk: a database on a disk. Clients commit all the time, and the primary loses power under load. Then the demo looks
for every acknowledged commit, lets the database check itself, and compares both hosts' disks."""

from __future__ import annotations

import subprocess
import sys
import time

from . import deploy, leader_lost
from .__main__ import wait_ssh
from .demo import acked, ended, finish_load, perform, start_load, wait_leader
from .hosts import SERVICE_IP, Host
from .paths import BUILD
from .up import say, up

DEMO = BUILD / "demo-disk"
OUT = DEMO / "clients.json"
FIRST_COMMIT_S, LOAD_BEFORE_S, LOAD_AFTER_S, CHECK_S = 120.0, 10.0, 10.0, 240.0
PROTECTED_S = 240.0  # the whole disk is copied
AUDIT_S = 60.0


def wait_acked(load: subprocess.Popen, more_than: int, seconds: float) -> None:
    end = time.monotonic() + seconds
    while acked(DEMO) <= more_than:
        if load.poll() is not None or time.monotonic() > end:
            raise SystemExit(f"no commit was acknowledged within {seconds:.0f} s; see {DEMO / 'client.log'}")
        time.sleep(0.2)


def fail_over(load: subprocess.Popen) -> None:
    """The primary loses power under load and comes back."""
    say("clients make their tables, then commit")
    wait_acked(load, 0, FIRST_COMMIT_S)
    time.sleep(LOAD_BEFORE_S)
    deploy.lead("primary", PROTECTED_S)  # on a busy machine there may have been a failover
    before = acked(DEMO)
    say(f"power loss of the primary, after {before} acknowledged commits")
    Host("primary").power_loss()
    wait_leader("secondary", 30)
    leader_lost.check("primary", "secondary")
    say(f"the secondary leads; the clients go on for {LOAD_AFTER_S:.0f} s")
    time.sleep(LOAD_AFTER_S)
    wait_acked(load, before, 60)
    say(f"{acked(DEMO)} acknowledged commits; the primary gets its power back, and its disk is filled anew")
    Host("primary").power_on()
    wait_ssh("primary")
    deploy.wait_protected("secondary", PROTECTED_S)
    time.sleep(2.0)


def mismatching_blocks(seconds: float) -> int | None:
    """Blocks in which the two hosts' disks differ; None if they could not be compared.

    On a very busy machine the leader may change while they are compared: then the new leader is asked.
    """
    end = time.monotonic() + seconds
    while True:
        leader = deploy.wait_protected("secondary", seconds)["leader"]
        code, audit = deploy.ploverctl(leader, "audit", "--disks")
        if (blocks := audit.get("disk_blocks_mismatching")) is not None:
            return blocks
        say(f"the disks could not be compared: {audit.get('error', f'status {code}')}")
        if time.monotonic() > end:
            return None


def show() -> dict:
    up(disk=True)
    deploy.lead("primary", PROTECTED_S)
    load = start_load(OUT, "lab.pg_client", "--host", SERVICE_IP, "--init")
    with ended(load):
        fail_over(load)
        say("protected again; looking for every acknowledged commit, and the database checks itself")
        clients = finish_load(load, OUT, CHECK_S)
    for problem in clients["problems"]:
        print(f"  {problem}")
    say("comparing the disks of both hosts")
    blocks = mismatching_blocks(AUDIT_S)
    protected, _ = deploy.ploverctl("secondary", "status")
    return {
        **{key: clients[key] for key in ("acked_commits", "lost", "outage_ms")},
        "disk_blocks_mismatching": blocks,
        "database_checks_ok": clients["database_checks_ok"],
        "reprotected": protected == 0,
    }


def good(result: dict) -> bool:
    return (
        result["acked_commits"] > 0
        and result["lost"] == 0
        and result["disk_blocks_mismatching"] == 0
        and result["database_checks_ok"]
        and result["reprotected"]
    )


def report(result: dict) -> str:
    blocks = result["disk_blocks_mismatching"]
    return f"""
  {result["acked_commits"]} commits were acknowledged; {result["lost"]} of them are lost.
  The primary's host died. The longest time without an answer was {result["outage_ms"]} ms.
  The database finds {"nothing" if result["database_checks_ok"] else "SOMETHING"} wrong with itself.
  The VM is {"protected again" if result["reprotected"] else "NOT protected"};
  {"it is NOT KNOWN how many" if blocks is None else blocks} blocks of its disk differ between its two copies.
  (build/demo-disk/result.json)"""


if __name__ == "__main__":
    sys.exit(perform(DEMO, show, report, good))
