# SPDX-License-Identifier: GPL-3.0-or-later
"""The log, written into the others' memory by real verbs: three members in three guests, and what may happen to them.

After each fault: whatever a leader told as committed is in the log of the leader after it, in order.
"""

from __future__ import annotations

import json
import signal
import time

import pytest

from .conftest import ENV, NAMES

PORT = 7420
SETTINGS = {
    "transport": "rdma",
    "rdma_timeout": 16,
    "rdma_retry": 3,
    "rdma_ring_mib": 8,
    "port": PORT,
    "failover_budget_ms": 20_000,
    "detection_ms": 1500,
    "heartbeat_ms": 100,
    "peer_timeout_ms": 3000,
}
WAIT_S = 60


class Nodes:
    def __init__(self, guests, **settings) -> None:
        self.guests, self.settings, self.runs = guests, settings, {}
        self.members = {n: {"address": guests[n].ip, "kind": "witness" if n == "witness" else "replica"} for n in NAMES}
        self.entry_bytes = 100
        self.folder = f"/tmp/node-{time.monotonic_ns()}"  # a fresh one in each guest

    def start(self, *names: str) -> Nodes:
        for name in names or NAMES:
            log = f"node-{time.monotonic_ns()}.txt"
            guest = self.guests[name]
            spec = {
                "member": name,
                "members": self.members,
                "preferred": "primary",
                "folder": self.folder,
                "entry_bytes": self.entry_bytes,
                "settings": {**SETTINGS, **self.settings},
            }
            pid = guest.spawn("python3", "/plover/tests/rdma/node.py", json.dumps(spec), log=f"/shared/{log}", **ENV)
            self.runs[name] = (pid, guest.shared / log)
        return self

    def said(self, name: str) -> list[dict]:
        path = self.runs[name][1]
        lines = path.read_text(errors="replace").splitlines() if path.exists() else []
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]

    def text(self, name: str) -> str:
        return self.runs[name][1].read_text(errors="replace")

    def committed(self, name: str) -> list[int]:
        return [line["committed"] for line in self.said(name) if "committed" in line]

    def view(self, name: str) -> int | None:
        return next((line["leads"] for line in reversed(self.said(name)) if "leads" in line), None)

    def wait(self, what: str, condition, limit_s: float = WAIT_S) -> None:
        end = time.monotonic() + limit_s
        while not condition():
            if time.monotonic() > end:
                logs = {n: self.runs[n][1].read_text(errors="replace")[-1500:] for n in self.runs}
                told = "\n".join(f"{n}: {t}" for n, t in logs.items())
                raise AssertionError(f"waited {limit_s} s in vain for {what}:\n{told}")
            time.sleep(0.1)

    def writes_to_both(self, name: str) -> bool:
        told = [line["rings"] for line in self.said(name) if line.get("rings")]
        return bool(told) and len(told[-1]["writes_to"]) == 2

    def commits(self, name: str, more: int, limit_s: float = WAIT_S) -> None:
        have = len(self.committed(name))
        self.wait(f"{more} commits of {name}", lambda: len(self.committed(name)) >= have + more, limit_s)

    def signal(self, name: str, number: int) -> None:
        self.guests[name].ask({"kill": self.runs[name][0], "signal": number})

    def end(self, *names: str) -> dict[str, list[int]]:
        """The logs they held."""
        for name in names:
            self.signal(name, signal.SIGTERM)
        for name in names:
            self.guests[name].ask({"wait": self.runs[name][0], "timeout": 20}, 30)
        return {name: next(line["log"] for line in self.said(name) if "log" in line) for name in names}

    def kill_all(self) -> None:
        for name in self.runs:
            try:
                self.signal(name, signal.SIGKILL)
            except (OSError, ValueError):
                pass


@pytest.fixture
def nodes(guests):
    group = Nodes(guests)
    try:
        yield group
    finally:
        group.kill_all()


def protected(group: Nodes) -> Nodes:
    group.start()
    group.wait("a leader that writes to both", lambda: group.view("primary") and group.writes_to_both("primary"))
    group.commits("primary", 50)
    return group


def nothing_lost(group: Nodes, old: str, new: str) -> None:
    """After ``new`` has committed on."""
    group.commits(new, 20)
    told, log = group.committed(old), group.end(new, "witness")[new]
    assert log == sorted(log), "out of order"
    assert set(told) - set(log) <= set(range(1, min(log))), f"lost: {sorted(set(told) - set(log))[-10:]}"
    assert max(log) > max(told)


def test_entries_are_committed_and_alike_everywhere_also_round_the_rings_end(nodes):
    """700 entries of 30 kB: two and a half times what a ring holds, with a truncation every 200."""
    nodes.entry_bytes = 30_000
    group = protected(nodes)
    group.commits("primary", 700)
    logs = group.end(*NAMES)
    assert len(logs["primary"]) > 700
    assert logs["primary"] == sorted(set(logs["primary"]))
    for name in ("secondary", "witness"):
        assert set(group.committed("primary")) - set(logs[name]) <= {max(logs["primary"])}, name


def test_a_leader_that_is_killed(nodes):
    group = protected(nodes)
    group.signal("primary", signal.SIGKILL)
    group.wait("the secondary to lead", lambda: group.view("secondary"))
    nothing_lost(group, "primary", "secondary")


def test_a_follower_that_is_killed_changes_nothing(nodes):
    group = protected(nodes)
    group.signal("witness", signal.SIGKILL)
    group.wait("the card's word on it", lambda: "transport retry counter exceeded" in group.text("primary"))
    group.commits("primary", 100)
    assert group.view("primary") == 1


def test_a_late_old_leader_writes_no_more(nodes):
    """It is stopped, the others elect the secondary, and it goes on: its card is refused, and it steps down."""
    group = protected(nodes)
    group.signal("primary", signal.SIGSTOP)
    try:
        group.wait("the secondary to lead", lambda: group.view("secondary"))
        group.commits("secondary", 20)
    finally:
        group.signal("primary", signal.SIGCONT)
    told = len(group.committed("primary"))
    group.wait("the old leader to step down", lambda: group.view("primary") is None)
    assert len(group.committed("primary")) - told <= 1
    group.wait("the new leader to write to both", lambda: group.writes_to_both("secondary"))
    nothing_lost(group, "primary", "secondary")


def test_a_guest_that_stops(nodes, guests):
    """As a frozen host: its card answers nothing either."""
    group = protected(nodes)
    guests["primary"].qmp("stop")
    try:
        group.wait("the secondary to lead", lambda: group.view("secondary"))
        group.commits("secondary", 20)
    finally:
        guests["primary"].qmp("cont")
    group.wait("the old leader to step down", lambda: group.view("primary") is None)
    nothing_lost(group, "primary", "secondary")


def test_a_link_that_goes_down_in_mid_write(nodes, guests):
    group = protected(nodes)
    guests["primary"].link("down")
    try:
        group.wait("the secondary to lead", lambda: group.view("secondary"))
        group.commits("secondary", 20)
    finally:
        guests["primary"].link("up")
    group.wait("the old leader to step down", lambda: group.view("primary") is None)
    nothing_lost(group, "primary", "secondary")
