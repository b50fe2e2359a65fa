# SPDX-License-Identifier: GPL-3.0-or-later
"""What the real core notes for the history, over simulated hosts: who led, why, for how long, with what outage."""
from __future__ import annotations

import pytest
from cluster import Cluster
from plover.consensus.consensus import ERA
from plover.core.event_log import EventLog
from test_core import write


@pytest.fixture
def cluster():
    out = Cluster()
    out.run_until(out.protected)
    return out


def views(node):
    return [(h.facts["view"], h.facts["leader"], h.facts["cause"], h.why) for h in node.history if h.kind == "view"]


def modes(node):
    return [h.facts["mode"] for h in node.history if h.kind == "mode"]


def outages(node):
    return [(h.facts["view"], h.facts["outage_ms"]) for h in node.history if h.kind == "serving"]


def test_the_first_boot(cluster):
    assert views(cluster["primary"]) == [(1, "primary", "first boot", "")]
    assert views(cluster["secondary"]) == [(1, "primary", "found leading", "this daemon started or came back")]
    assert modes(cluster["primary"]) == ["down", "degraded", "protected"]
    assert modes(cluster["secondary"])[-1] == "protected"
    assert outages(cluster["primary"]) == [(1, None)]  # nobody was served before


def test_a_failover_tells_who_was_silent_for_how_long_and_what_it_cost(cluster):
    cluster.run(0.5)
    cluster.kill("primary")
    died = cluster.now
    cluster.run_until(lambda: len(outages(cluster["secondary"])) == 1)
    served_ms = 1000 * (cluster.now - died)
    view, leader, cause, why = views(cluster["secondary"])[-1]
    assert (view, leader, cause) == (2, "secondary", "failover")
    assert why.startswith("primary was silent for 1") and why.endswith(" ms (detection_ms is 100)")
    ((view, outage_ms),) = outages(cluster["secondary"])
    assert view == 2 and served_ms - 1 <= outage_ms <= served_ms + 21  # from the last heartbeat, up to 20 ms before
    status = cluster["secondary"].core.at(cluster.now).status()
    assert (status["service"], status["reason"]) == ("degraded", f"failover in view 2: {why}")
    cluster.run(1.0)
    assert cluster["secondary"].core.at(cluster.now).status()["since"] == pytest.approx(1.0, abs=0.01)
    cluster.restart("primary")
    cluster.run_until(cluster.protected)
    cluster.run(0.1)
    ended = cluster["secondary"].history[-1]
    assert (ended.kind, ended.facts["mode"], ended.facts["before"]) == ("mode", "protected", "degraded")
    assert ended.facts["before_s"] > 1.0
    status = cluster["secondary"].core.status()
    assert status["reason"] == "" and status["since"] <= 0.1
    assert views(cluster["primary"]) == [(2, "secondary", "found leading", "this daemon started or came back")]


def test_a_switchover_is_told_from_a_failover_on_both_replicas(cluster):
    answers = []
    cluster["primary"].core.at(cluster.now).switchover(answers.append)
    cluster.run_until(cluster.protected)
    cluster.run_until(lambda: answers and cluster["secondary"].core.leading)
    cluster.run(1.0)
    told = (2, "secondary", "switchover", "asked for by the operator")
    assert views(cluster["secondary"])[-1] == told and views(cluster["primary"])[-1] == told
    ((_, outage_ms),) = outages(cluster["secondary"])
    assert 0 < outage_ms < 100


def test_a_leader_that_lost_its_qemu_says_so_everywhere(cluster):
    node = cluster["primary"]
    node.qemu = False
    node.answers.clear()
    node.core.at(cluster.now).qemu_exited("QEMU ended (see its unit's journal)")
    node.pump()
    cluster.run_until(cluster.protected)
    told = (2, "secondary", "handed over", "QEMU ended (see its unit's journal)")
    assert views(cluster["secondary"])[-1] == told
    assert told in views(cluster["primary"])


def test_a_degraded_group_says_which_member_is_missing(cluster):
    cluster.kill("secondary")
    cluster.run_until(lambda: cluster["primary"].core.status()["service"] == "degraded")
    cluster.run(0.02)
    note = cluster["primary"].history[-1]
    assert note.why == "secondary has been silent for 400 ms (peer_timeout_ms)"
    assert cluster["primary"].core.status()["reason"] == note.why
    cluster.restart("secondary")
    cluster.run_until(lambda: modes(cluster["secondary"])[-1:] == ["degraded"])
    assert cluster["secondary"].history[-1].why == "only primary holds the VM's state"


def test_a_leader_without_quorum_notes_that_it_is_down_and_when_that_ends(cluster):
    cluster.kill("witness")
    cluster.kill("secondary")
    cluster.run(1.0)
    assert modes(cluster["primary"])[-1] == "down"
    cluster.restart("witness")
    cluster.run(1.0)
    assert modes(cluster["primary"])[-2:] == ["down", "degraded"]
    assert len(views(cluster["primary"])) == 1


def test_nothing_is_noted_while_nothing_happens(cluster):
    cluster.run(0.1)
    before = [len(n.history) for n in cluster.nodes.values()]
    for value in range(1, 20):
        write(cluster, value)
    assert [len(n.history) for n in cluster.nodes.values()] == before


def test_an_old_handover_does_not_explain_a_later_election():
    book = EventLog(0.0)
    book.handover(10.0, "switchover", "asked for")
    assert book.handed_over(10.1) == ("switchover", "asked for")
    assert book.handed_over(15.1) is None
    (note,) = book.follows(16.0, 3, "b", transfer=True)
    assert note.facts["cause"] == "found leading"
    assert book.follows(16.0, 3, "b", transfer=True) == []  # once
    (note,) = book.follows(17.0, 4, "b", transfer=False)
    assert note.facts["cause"] == "re-elected"
    (note,) = book.follows(17.0, 5, "a", transfer=True)
    assert (note.facts["cause"], note.why) == ("handed over", "by b")
    (note,) = book.follows(17.0, 6, "b", transfer=False)
    assert (note.facts["cause"], note.why) == ("failover", "a was lost")
    (note,) = book.follows(17.0, 7 * ERA, "a", transfer=False)
    assert note.facts["cause"] == "forced"
