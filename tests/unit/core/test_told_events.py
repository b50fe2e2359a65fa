# SPDX-License-Identifier: GPL-3.0-or-later
"""Which notes of the event log become events for the operator, from a real group's own histories and one by one."""

from __future__ import annotations

import json

import pytest
from plover.core.status import role_of
from plover.core.told_events import LOSSES, MESSAGE_IDS, Standing, ToldEvents, environment, is_first_look, sentence

from tests.sim.rig import protected

AT = "2026-05-04T09:12:01.310Z"
LEADS = Standing("leader", 2, "secondary")


def told(node):
    """What a member of the simulated group would tell, of all that it has noted."""
    events = ToldEvents("demo", node.name)
    standing = Standing(role_of(node.core), node.core.consensus.view, node.core.consensus.leader)
    made = [events.of(AT, note.kind, note.why, note.facts, standing) for note in node.history]
    return [event for event in made if event]


def of(kind, facts, why="because", standing=LEADS):
    return ToldEvents("demo", "secondary").of(AT, kind, why, facts, standing)


@pytest.mark.usefixtures("small_pages")
def test_a_failover_is_told_with_its_outage_by_the_new_leader():
    group = protected()
    group.run(0.5)
    group.kill("primary")
    group.until(lambda: any(note.kind == "serving" for note in group["secondary"].history))
    group.run(0.1)
    events = [event for event in told(group["secondary"]) if event["view"] == 2]
    by_word = {event["event"]: event for event in events}
    assert {"failover", "serving", "degraded"} <= set(by_word)
    assert by_word["failover"]["why"].startswith("primary was silent") and by_word["failover"]["leader"] == "secondary"
    assert by_word["serving"]["outage_ms"] > 0 and by_word["serving"]["why"] == f"failover: {by_word['failover']['why']}"
    assert {event["role"] for event in events} == {"leader"}


@pytest.mark.usefixtures("small_pages")
def test_a_switchover_is_told_as_such_by_both_replicas():
    group = protected()
    answers = group["primary"].switchover()
    group.until(group.protected)
    group.until(lambda: answers and group["secondary"].core.leading)
    group.run(1.0)
    for name in ("primary", "secondary"):
        words = [event["event"] for event in told(group[name])]
        assert "switchover" in words and "failover" not in words
    assert told(group["primary"])[-1]["role"] == "secondary"


def test_all_keys_are_always_there():
    event = of("mode", {"mode": "degraded", "before": "protected", "before_s": 12.5})
    assert event == {
        "version": 1,
        "vm": "demo",
        "member": "secondary",
        "role": "leader",
        "at": AT,
        "event": "degraded",
        "view": 2,
        "leader": "secondary",
        "why": "because",
        "before": "protected",
        "before_s": 12.5,
        "outage_ms": None,
    }
    for other in (of("view", {"view": 3, "leader": "primary", "cause": "failover"}), of("serving", {"view": 2, "outage_ms": 1.5})):
        assert other.keys() == event.keys()
    assert json.loads(json.dumps(event)) == event


@pytest.mark.parametrize(
    "kind, facts",
    [
        ("start", {}),
        ("view", {"view": 1, "leader": "primary", "cause": "first boot"}),
        ("view", {"view": 1, "leader": "primary", "cause": "found leading"}),
        ("view", {"view": 1, "leader": "primary", "cause": "something new"}),
        ("mode", {"mode": "forced", "before": "down", "before_s": 1.0}),
        ("serving", {"view": 1, "outage_ms": None}),
    ],
)
def test_what_happens_to_no_vm_is_not_told(kind, facts):
    assert of(kind, facts) is None


@pytest.mark.parametrize("cause", ["failover", "switchover", "handed over", "forced", "cold start", "re-elected"])
def test_a_view_is_told_by_its_cause(cause):
    event = of("view", {"view": 3, "leader": "primary", "cause": cause})
    assert (event["event"], event["view"], event["leader"]) == (cause, 3, "primary")
    assert sentence(event) == f"{cause}: primary leads view 3: because"


def test_each_event_has_an_id_of_its_own():
    assert len(set(MESSAGE_IDS.values())) == len(MESSAGE_IDS) == 13 and set(LOSSES) < MESSAGE_IDS.keys()
    assert all(len(bytes.fromhex(each)) == 16 and each == each.lower() for each in MESSAGE_IDS.values())


def test_a_daemon_that_has_just_started_does_not_know_yet():
    first = {"before": None, "before_s": None}
    assert is_first_look(of("mode", {"mode": "down", **first}))
    assert not is_first_look(of("mode", {"mode": "degraded", **first}))
    assert not is_first_look(of("mode", {"mode": "down", "before": "protected", "before_s": 1.0}))


def test_the_environment_has_nothing_that_a_terminal_obeys():
    event = of("mode", {"mode": "down", "before": "degraded", "before_s": 1.0}, "a\x1b[2J\0\nb", Standing("candidate", 2, None))
    assert environment(event) == {
        "PLOVER_EVENT": "down",
        "PLOVER_VM": "demo",
        "PLOVER_MEMBER": "secondary",
        "PLOVER_ROLE": "candidate",
        "PLOVER_VIEW": "2",
        "PLOVER_LEADER": "",
        "PLOVER_WHY": "a?[2J??b",
    }
    assert len(of("mode", {"mode": "down", "before": "degraded", "before_s": 1.0}, "x" * 5000)["why"]) == 500
