# SPDX-License-Identifier: GPL-3.0-or-later
"""What the operator sees and does with two real QEMUs: the history of a failover, and one that is forced."""

from __future__ import annotations

import time

from harness import connect
from plover.host import history


def past(group, member: str) -> list[dict]:
    entries, damaged = history.read(group.folder / member / "state" / "demo")
    assert damaged == 0
    return history.with_durations(entries, time.time())


def views(group, member: str) -> list[tuple]:
    return [(e["view"], e["leader"], e["cause"]) for e in past(group, member) if e["kind"] == "view"]


def test_a_failover_is_in_the_history_of_all_who_lived(group):
    client = connect()
    assert client.ask("SET", "a", "1") == b"+OK"
    began = time.time()
    group.power_off("primary")
    assert client.ask("SET", "b", "2") == b"+OK"
    waited_ms = 1000 * (time.time() - began)
    status = group.status("secondary")
    assert status["service"] == "degraded" and status["reason"].startswith("failover in view 2: primary was silent for ")
    time.sleep(0.3)
    assert views(group, "secondary")[-1] == (2, "secondary", "failover")
    assert views(group, "witness") == [(1, "primary", "found leading"), (2, "secondary", "failover")]
    assert views(group, "primary") == [(1, "primary", "first boot")]
    (row,) = [e for e in past(group, "secondary") if e["kind"] == "view" and e["view"] == 2]
    print(f"outage: {row['outage_ms']} ms as the new leader knows it, {waited_ms:.0f} ms for a client")
    assert 100 <= row["outage_ms"] <= waited_ms + 50 and not row["ended"]
    group.start("primary")
    group.wait("secondary", service="protected")
    time.sleep(0.3)
    modes = [(e["mode"], e["ended"]) for e in past(group, "secondary") if e["kind"] == "mode"]
    assert modes[-2:] == [("degraded", True), ("protected", False)]
    assert views(group, "primary")[-1] == (2, "secondary", "found leading")


def test_the_last_host_is_forced_to_lead_and_the_others_come_back(group):
    client = connect()
    assert client.ask("SET", "a", "1") == b"+OK"
    group.power_off("witness")
    group.power_off("primary")
    group.wait("secondary", service="down")
    end = time.monotonic() + 20
    while not (said := group.ctl("secondary", "failover-price"))["ok"]:  # the others have not been silent for long yet
        assert time.monotonic() < end, said
        time.sleep(0.1)
    assert len(said["price"]) == 3 and "Time may go back" in said["price"][1]
    assert group.ctl("secondary", "failover-force")["view"] >= 1_000_000
    assert client.ask("SET", "b", "2") == b"+OK"
    status = group.status("secondary")
    assert (status["forced"], status["service"]) == (True, "degraded")
    group.start("primary")
    group.wait("secondary", service="protected", forced=False)
    group.start("witness")
    group.wait("witness", service="protected", leader="secondary")
    assert [client.ask("GET", key) for key in "ab"] == [b"1", b"2"]
    time.sleep(0.3)
    assert views(group, "secondary")[-1][2] == "forced" == views(group, "witness")[-1][2]
    lengths = {e["mode"]: e["lasted_s"] for e in past(group, "secondary") if e["kind"] == "mode"}
    assert lengths["forced"] > 0.05 and lengths["down"] > 1.0
