# SPDX-License-Identifier: GPL-3.0-or-later
"""A drill: there and back by two switchovers, on the simulator's group; and what happens if something comes in between."""

from __future__ import annotations

import pytest
from plover.core import drill
from plover.core.drill import Drill
from plover.protocol import wire

from tests.sim.rig import protected

pytestmark = pytest.mark.usefixtures("small_pages")


@pytest.fixture
def group():
    return protected()


def asked(member):
    answers: list = []
    member.call("drill", answers.append)
    return answers


def told(member):
    return member.status().get("drill")


def back(group):
    return group.serving() is group["primary"] and group.protected() and (told(group["primary"]) or {}).get("over")


def test_a_drill_goes_there_and_comes_back(group):
    group.write(3)
    primary = group["primary"]
    assert told(primary) is None
    answers = asked(primary)
    group.until(lambda: answers)
    assert answers == [None] and told(primary) == {"over": False, "there_ms": None, "back_ms": None}
    group.until(lambda: group.serving() is group["secondary"])
    group.write(4)
    group.until(lambda: back(group))
    report = told(primary)
    assert 0 < report["there_ms"] < 1000 and 0 < report["back_ms"] < 1000
    assert primary.has(3, 4) and group.write(5) is primary
    causes = [view[1:3] for view in primary.views()]
    assert causes[-2:] == [("secondary", "switchover"), ("primary", "switchover")]
    assert [view[1:3] for view in group["secondary"].views()][-2:] == causes[-2:]


def test_it_stays_there_after_it_came_back(group):
    asked(group["primary"])
    group.until(lambda: back(group))
    group.run(5.0)
    assert group.serving() is group["primary"]
    group["primary"].switchover()
    group.until(lambda: group.serving() is group["secondary"])
    group.until(group.protected)
    group.run(3.0)
    assert group.serving() is group["secondary"], "an ordinary switchover does not come back"


def test_only_the_leader_of_a_protected_vm_is_drilled(group):
    assert asked(group["secondary"]) == ["this host does not lead; ask primary"]
    group.kill("secondary")
    group.until(lambda: not group["primary"].core.leading.protected)
    (why,) = asked(group["primary"])
    assert why.startswith("not protected") and told(group["primary"]) is None


def test_a_leader_that_dies_during_the_drill_is_a_failover_and_ends_it(group):
    """The other replica has the VM, and we are in sync with it."""
    held = group["primary"].hold(wire.TransferLeadership)
    asked(group["primary"])
    group.until(lambda: held)
    group.kill("secondary")
    group.until(lambda: group.serving() is group["primary"], 5.0)
    group.run(0.5)
    report = told(group["primary"])
    assert report["over"] and report["there_ms"] is None
    assert group["primary"].views()[-1][2] == "failover"


def test_a_leader_of_an_earlier_version_keeps_the_vm(group):
    """It does not know what the join request asks for."""
    secondary = group["secondary"]
    asked(group["primary"])
    group.until(lambda: group.serving() is secondary and secondary.core.leading.hand_back.wanted)
    secondary.core.leading.hand_back.wanted = False
    group.until(group.protected)
    group.run(3.0)
    assert group.serving() is secondary and told(group["primary"]) == {"over": False, "there_ms": None, "back_ms": None}


@pytest.mark.parametrize("wants", ["yes", 1, None, {"hand_back": True}])
def test_a_join_request_that_wants_something_else_gets_nothing_back(group, wants):
    group["primary"].switchover()
    group.until(lambda: group.serving() is group["secondary"])
    group["primary"].core.facts[drill.HAND_BACK] = wants
    group.until(group.protected)
    group.run(3.0)
    assert group.serving() is group["secondary"]


def test_after_a_failover_nobody_gets_the_vm_by_asking_for_it(group):
    """Only who has just handed it over may have it back."""
    group.kill("primary")
    group.until(lambda: group.serving() is group["secondary"], 5.0)
    group.restart("primary")
    group["primary"].core.drills = Drill(group.now)
    group.until(group.protected)
    group.run(3.0)
    assert group["primary"].core.drills.asks(group.now) and group.serving() is group["secondary"]


def test_the_time_for_which_the_vm_is_asked_for_is_limited():
    one = Drill(10.0)
    assert one.asks(10.0) and one.asks(9.0 + drill.LIMIT_S) and not one.asks(10.0 + drill.LIMIT_S)
    one.leads()
    assert not one.asks(10.0) and not Drill().asks(0.0)


@pytest.mark.parametrize(
    ("why", "ours", "there_ms"),
    [
        (drill.told(41.25), True, 41.2),
        (drill.told(None), True, None),
        (drill.told(1e30), True, 1e9),
        ("drill: clients waited 1e9 ms", False, None),
        ("drill: clients waited 99999999999999999.0 ms", False, None),
        ("QEMU ended", False, None),
        ("", False, None),
    ],
)
def test_a_handover_counts_only_if_it_is_that_of_the_drill(why, ours, there_ms):
    one = Drill(0.0)
    assert one.handed_back(1.0, why) is ours and one.there_ms == there_ms
    assert not Drill().handed_back(1.0, why) and not one.handed_back(drill.LIMIT_S + 1, why)
