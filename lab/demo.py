# SPDX-License-Identifier: GPL-3.0-or-later
"""make demo: clients write all the time, the primary loses power under load, and nothing is lost."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from . import deploy, leader_lost
from .__main__ import execute, wait_ssh
from .hosts import CLIENT, HOSTS, Host, down
from .paths import BUILD, ROOT
from .up import BEGAN, say, up

DEMO = BUILD / "demo"
LOAD_BEFORE_S, LOAD_AFTER_S = 8.0, 10.0


def start_load(out: Path, *words: str) -> subprocess.Popen:
    """Clients (``words``: module and options), which log beside their result ``out``."""
    out.unlink(missing_ok=True)
    with open(out.parent / "client.log", "w") as log:
        return subprocess.Popen(
            ["ip", "netns", "exec", CLIENT, sys.executable, "-m", *words, "--out", str(out)],
            cwd=ROOT,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
        )


def finish_load(load: subprocess.Popen, out: Path, seconds: float = 120) -> dict:
    load.terminate()
    if load.wait(seconds) != 0:
        raise SystemExit(f"the clients failed; see {out.parent / 'client.log'}")
    return json.loads(out.read_text())


@contextlib.contextmanager
def ended(load: subprocess.Popen) -> Iterator[None]:
    """The clients end with the block, whatever happens in it."""
    try:
        yield
    finally:
        if load.poll() is None:
            load.kill()
            load.wait()


def acked(folder: Path = DEMO) -> int:
    lines = (folder / "client.log").read_text().splitlines()
    return json.loads(lines[-1])["acked"] if lines and lines[-1].startswith("{") else 0


def wait_leader(host: str, seconds: float) -> dict:
    end = time.monotonic() + seconds
    while True:
        _, status = deploy.ploverctl(host, "status")
        if status.get("role") == "leader" and status.get("service") in ("degraded", "protected"):
            return status
        if time.monotonic() > end:
            raise SystemExit(f"{host} did not take over within {seconds:.0f} s: {status.get('sentence')}")
        time.sleep(0.2)


def save_journals(folder: Path = DEMO) -> None:
    for host in HOSTS:
        if Host(host).running():
            (folder / f"journal-{host}.txt").write_text(execute(host, "journalctl -b --no-pager -u 'plover-*'").stdout)


def show() -> dict:
    up()
    deploy.lead("primary", 60)
    before = deploy.wait_protected("primary", 60)
    say(f"eight clients write now; in {LOAD_BEFORE_S:.0f} s the primary loses its power")
    load, out = start_load(DEMO / "clients.json", "lab.client"), DEMO / "clients.json"
    with ended(load):
        time.sleep(LOAD_BEFORE_S)
        deploy.lead("primary", 60)  # on a busy machine there may have been a failover
        before = deploy.wait_protected("primary", 60)
        say(f"power loss of the primary, after {acked()} acknowledged writes")
        Host("primary").power_loss()
        wait_leader("secondary", 30)
        leader_lost.check("primary", "secondary")
        say(f"the secondary leads; the clients go on for {LOAD_AFTER_S:.0f} s on the same connections")
        time.sleep(LOAD_AFTER_S)
        say(f"{acked()} acknowledged writes; the primary gets its power back (about 10 s until protected again)")
        host = Host("primary")
        host.power_on()
        wait_ssh("primary")
        deploy.wait_protected("secondary", 90)
        say("protected again; reading back every acknowledged write")
        time.sleep(2.0)
        clients = finish_load(load, out)
    say("comparing all guest memory of both hosts")
    code, audit = deploy.ploverctl("secondary", "audit")
    if not audit.get("ok"):
        raise SystemExit(f"audit: {audit.get('error', code)}")
    say("running the play again: it must change nothing")
    changed, said = deploy.play()
    if "still runs without" in said:
        raise SystemExit("a member waits for a restart, though nobody has changed its settings; see build/lab/play.log")
    final, status = deploy.ploverctl("secondary", "status")
    totals = [s.get("totals", {}) for s in (before, status)]
    dirty, divergent = (sum(t.get(key, 0) for t in totals) for key in ("dirty_pages", "divergent_pages"))
    return {
        "acked": clients["acked"],
        "lost": clients["lost"],
        "outage_ms": clients["outage_ms"],
        "connections_broken": clients["connections_broken"],
        "syncvms": sum(t.get("syncvms", 0) for t in totals),
        "same_page_percent": round(100 * (1 - divergent / dirty), 1) if dirty else None,
        "ram_pages_mismatching": audit["mismatching"] + audit["untracked"],
        "reprotected": final == 0,
        "redeploy_changed": changed,
        "wall_s": round(time.monotonic() - BEGAN, 1),
    }


def good(result: dict) -> bool:
    return (
        result["lost"] == 0
        and result["ram_pages_mismatching"] == 0
        and result["redeploy_changed"] == 0
        and result["reprotected"]
        and result["acked"] > 0
    )


def report(result: dict) -> str:
    return f"""
  {result["acked"]} writes were acknowledged; {result["lost"]} of them are lost.
  The primary's host died. The longest time without an answer was {result["outage_ms"]} ms;
  {result["connections_broken"]} connections broke.
  The VM is {"protected again" if result["reprotected"] else "NOT protected"};
  {result["ram_pages_mismatching"]} of all memory pages differ between its two copies.
  A second run of the play changed {result["redeploy_changed"]} things. All of it took {result["wall_s"]} s.
  (build/demo/result.json)"""


def perform(folder: Path, show: Callable[[], dict], report: Callable[[dict], str], good: Callable[[dict], bool]) -> int:
    """A demo from hosts to report, with its result in ``folder``; the exit status."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "result.json").unlink(missing_ok=True)
    try:
        result = show()
        (folder / "result.json").write_text(json.dumps(result) + "\n")
    finally:
        save_journals(folder)
        if os.environ.get("KEEP") != "1":
            say("taking the hosts down (KEEP=1 keeps them)")
            down()
    print(report(result))
    return 0 if good(result) else 1


if __name__ == "__main__":
    sys.exit(perform(DEMO, show, report, good))
