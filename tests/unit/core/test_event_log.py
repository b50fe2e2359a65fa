# SPDX-License-Identifier: GPL-3.0-or-later
"""What the real core notes for the history, over simulated hosts: who led, why, for how long, with what outage."""

from __future__ import annotations

import pytest
from plover.consensus.sender import ERA
from plover.core.event_log import EventLog

from tests.sim.rig import protected

pytestmark = pytest.mark.usefixtures("small_pages")


@pytest.fixture
def group():
    return protected()


def outages(node):
    return [(h.facts["view"], h.facts["outage_ms"]) for h in node.history if h.kind == "serving"]


def test_the_first_boot(group):
    group.run(0.01)
    assert group["primary"].views() == [(1, "primary", "first boot", "")]
    assert group["secondary"].views() == [(1, "primary", "found leading", "this daemon started or came back")]
    assert group["primary"].modes() == ["down", "degraded", "protected"]
    assert group["secondary"].modes()[-1] == "protected"
    assert outages(group["primary"]) == [(1, None)]  # nobody was served before


def test_a_failover_tells_who_was_silent_for_how_long_and_what_it_cost(group):
    group.run(0.5)
    group.kill("primary")
    died = group.now
    group.until(lambda: len(outages(group["secondary"])) == 1)
    served_ms = 1000 * (group.now - died)
    view, leader, cause, why = group["secondary"].views()[-1]
    assert (view, leader, cause) == (2, "secondary", "failover")
    assert why.startswith("primary was silent for 1") and why.endswith(" ms (detection_ms is 100)")
    ((view, outage_ms),) = outages(group["secondary"])
    assert view == 2 and served_ms - 1 <= outage_ms <= served_ms + 21  # from the last heartbeat, up to 20 ms before
    status = group["secondary"].status()
    assert (status["service"], status["reason"]) == ("degraded", f"failover in view 2: {why}")
    group.run(1.0)
    assert group["secondary"].status()["since"] == pytest.approx(1.0, abs=0.01)
    group.restart("primary")
    group.until(group.protected)
    group.run(0.1)
    ended = group["secondary"].history[-1]
    assert (ended.kind, ended.facts["mode"], ended.facts["before"]) == ("mode", "protected", "degraded")
    assert ended.facts["before_s"] > 1.0
    status = group["secondary"].status()
    assert status["reason"] == "" and status["since"] <= 0.1
    assert group["primary"].views() == [(2, "secondary", "found leading", "this daemon started or came back")]


def test_a_switchover_is_told_from_a_failover_on_both_replicas(group):
    answers = group["primary"].switchover()
    group.until(group.protected)
    group.until(lambda: answers and group["secondary"].core.leading)
    group.run(1.0)
    told = (2, "secondary", "switchover", "asked for by the operator")
    assert group["secondary"].views()[-1] == told and group["primary"].views()[-1] == told
    ((_, outage_ms),) = outages(group["secondary"])
    assert 0 < outage_ms < 100


def test_a_leader_that_lost_its_qemu_says_so_everywhere(group):
    group["primary"].qemu_dies()
    group.until(group.protected)
    told = (2, "secondary", "handed over", "QEMU ended")
    assert group["secondary"].views()[-1] == told
    assert told in group["primary"].views()


def test_a_degraded_group_says_which_member_is_missing(group):
    group.kill("secondary")
    group.until(lambda: group["primary"].status()["service"] == "degraded")
    group.run(0.02)
    note = group["primary"].history[-1]
    assert note.why == "secondary has been silent for 400 ms (peer_timeout_ms)"
    assert group["primary"].status()["reason"] == note.why
    group.restart("secondary")
    group.until(lambda: group["secondary"].modes()[-1:] == ["degraded"])
    assert group["secondary"].history[-1].why == "only primary holds the VM's state"


def test_a_leader_without_quorum_notes_that_it_is_down_and_when_that_ends(group):
    group.kill("witness")
    group.kill("secondary")
    group.run(1.0)
    assert group["primary"].modes()[-1] == "down"
    group.restart("witness")
    group.run(1.0)
    assert group["primary"].modes()[-2:] == ["down", "degraded"]
    assert len(group["primary"].views()) == 1


def test_nothing_is_noted_while_nothing_happens(group):
    group.run(0.1)
    before = [len(seat.history) for seat in group.seats.values()]
    for value in range(1, 20):
        group.write(value)
    assert [len(seat.history) for seat in group.seats.values()] == before


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


def test_a_member_that_knows_of_no_in_sync_set_yet_names_nobody(group):
    """It hears that the group is degraded before the record reaches it."""
    assert not [note.why for seat in group.seats.values() for note in seat.history if "only  holds" in note.why]
