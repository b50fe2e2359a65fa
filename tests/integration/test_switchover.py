# SPDX-License-Identifier: GPL-3.0-or-later
"""A planned switchover: no connection breaks, nothing is lost, and how long clients wait. The figures are printed, not
judged: under TCG the new leader has just loaded a state and translates all its code again."""

from __future__ import annotations

import json
import socket
import statistics
import threading
import time

from harness import NETNS, REPLICAS, connect, limit
from test_operator import past, views

from lab.netns import inside

ROUNDS = 6
FAILOVERS_MAX = 2
WRITES = 50  # before and after each switchover
ALL, MLD_REPORT, IS_EXCLUDE = 0x0003, 143, 2  # IS_EXCLUDE: a record of an answer; unasked reports have others
GROUP = socket.inet_pton(socket.AF_INET6, "ff02::1:ff70:6c01")  # of the guest's link-local address


class Writer(threading.Thread):
    """One client that writes without a pause over one connection, and notes when each answer came."""

    def __init__(self) -> None:
        super().__init__()
        self.client, self.going, self.error = connect(), True, None
        self.answers = [time.monotonic()]

    def run(self) -> None:
        try:
            while self.going:
                n = len(self.answers)
                if self.client.ask("SET", f"k{n}", str(n)) != b"+OK":
                    raise AssertionError(f"SET k{n} was not answered with OK")
                self.answers.append(time.monotonic())
        except Exception as error:  # handed to the test's thread
            self.error = error

    def writes(self, more: int) -> None:
        """Wait until ``more`` further writes were answered."""
        wanted, end = len(self.answers) + more, time.monotonic() + limit(20.0)
        while len(self.answers) < wanted:
            assert self.is_alive() and time.monotonic() < end, (self.error, len(self.answers), wanted)
            time.sleep(0.01)

    def gap_ms(self, at: float) -> tuple[float, float]:
        """(time between the answer before ``at`` and the one after it, when it began)."""
        return next((1000 * (b - a), a) for a, b in zip(self.answers, self.answers[1:]) if b > at)


def timeline(group, begin: float, end: float) -> list[str]:
    """What both daemons did in between, in ms since ``begin``."""
    notes = []
    for member in ("primary", "secondary"):
        notes += [json.loads(line) for line in (group.run_folder(member) / "times").read_text().splitlines()]
    return [f"{1000 * (at - begin):8.1f}  {member:<10} {what}" for at, member, what in sorted(notes) if begin <= at <= end]


def test_switchovers_break_no_connection_and_lose_nothing(new_group):
    group = new_group()
    group.start(replica="timed_replica")
    group.wait("primary", service="protected")
    writer = Writer()
    writer.start()
    outages, known = [], []
    for n in range(ROUNDS):
        writer.writes(WRITES)
        target = switched_over(group)
        writer.writes(WRITES)
        gap_ms, began = writer.gap_ms(elected(group, target))
        outages.append(gap_ms)
        if n == ROUNDS - 1:
            print("\n".join(timeline(group, began - 0.005, began + gap_ms / 1000 + 0.02)))
        protected_leader(group)
        told = [e for e in past(group, target) if e["kind"] == "view" and e["cause"] == "switchover"]
        known.append(told[-1]["outage_ms"])
    writer.going = False
    writer.join(limit(20))
    assert writer.error is None and not writer.is_alive()
    client, written = connect(), len(writer.answers)
    print(
        f"{ROUNDS} switchovers, {written} writes: a client waits {statistics.median(outages):.0f} ms (median), "
        f"{max(outages):.0f} ms (longest); as the new leaders know it {statistics.median(known):.0f} ms, "
        f"{max(known):.0f} ms (longest)"
    )
    assert [n for n in range(1, written) if client.ask("GET", f"k{n}") != str(n).encode()] == []
    for member in ("primary", "secondary"):  # each view is told alike by both
        told = [view for view in views(group, member) if view[2] == "switchover"]
        assert len(told) == ROUNDS, (told, views(group, member))


def protected_leader(group, seconds: float = 60.0) -> str:
    end = time.monotonic() + limit(seconds)
    while True:
        for member in REPLICAS:
            status = group.status(member)
            if (status.get("role"), status.get("service")) == ("leader", "protected"):
                return member
        assert time.monotonic() < end, group.story()
        time.sleep(0.05)


def switched_over(group) -> str:
    """Switch over once. Returns the new leader.

    On a busy machine a failover may come first, and the member that was asked no longer leads: then ask the new leader.
    """
    for _time in range(FAILOVERS_MAX + 1):
        leader = protected_leader(group)
        reply = group.ctl(leader, "switchover")
        if reply["ok"]:
            return next(member for member in REPLICAS if member != leader)
        assert "does not lead" in str(reply), (reply, group.story())
    raise AssertionError(f"{FAILOVERS_MAX} failovers came before a switchover: {group.story()}")


def elected(group, member: str) -> float:
    """When ``member`` promoted its VM last."""
    notes = [json.loads(line) for line in (group.run_folder(member) / "times").read_text().splitlines()]
    return max(at for at, _, what in notes if what == "Promote")


def test_the_guest_reports_its_multicast_groups_from_its_new_host(new_group):
    """A switch there would else not send it their frames before the network's own querier asks, up to two minutes later."""
    group = new_group()
    group.start()
    protected_leader(group)
    connect()  # it has booted, and reports its groups unasked no more
    heard = inside(NETNS, lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL)))
    with heard:
        for _turn in range(2):
            target = switched_over(group)
            reported_by(heard, f"pt-{target}"[:15])
            protected_leader(group)


def reported_by(heard: socket.socket, tap: str) -> None:
    """Wait until the guest behind ``tap`` has answered the question."""
    end = time.monotonic() + limit(20.0)
    while True:
        heard.settimeout(max(0.01, end - time.monotonic()))
        frame, where = heard.recvfrom(2048)  # TimeoutError: it did not
        is_report = frame[12:14] == b"\x86\xdd" and frame[20] == 0 and frame[54] == 58 and frame[62] == MLD_REPORT
        if where[0] == tap and is_report and bytes([IS_EXCLUDE, 0, 0, 0]) + GROUP in frame:
            return
