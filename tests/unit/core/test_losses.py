# SPDX-License-Identifier: GPL-3.0-or-later
"""The main job in a group of three, and what is left of it when members, QEMUs and wires are lost: at each of many moments."""

from __future__ import annotations

import pytest
from plover.protocol import wire

from tests.sim.rig import Rig
from tests.sim.rig import protected as protected_rig

pytestmark = pytest.mark.usefixtures("small_pages")
STEPS_MS = range(1, 40)  # a syncvm, and some time after


@pytest.fixture
def group():
    return protected_rig()


def test_boots_fills_and_protects(group):
    leader = group.serving()
    assert leader.name == "primary"
    assert group["secondary"].status()["role"] == "secondary"
    assert leader.consensus.record.in_sync == {"primary", "secondary"}
    assert group["witness"].consensus.record == leader.consensus.record


def test_output_waits_for_the_syncvm(group):
    group["secondary"].hold(wire.StageEnd)
    group.send(5)
    group.run(0.1)
    assert group["primary"].has(5) and not group["primary"].released
    group["secondary"].let_go(wire.StageEnd)
    assert group.write(5).name == "primary" and group["secondary"].has(5)
    assert group["secondary"].released == []


def test_nothing_leaves_while_the_data_channel_is_cut(group):
    group.cut("primary", "secondary")
    group.send(6)
    group.run(0.2)  # less than peer_timeout_ms
    assert group["primary"].released == []
    group.until(lambda: group.serving() and group.serving().status()["service"] == "degraded")
    assert group.write(7).name == "primary"


def test_leader_dies_and_everything_acknowledged_is_there(group):
    for value in range(1, 9):
        group.write(value)
    group.kill("primary")
    group.until(group.serving)
    assert group.serving().name == "secondary"
    assert group["secondary"].has(*range(1, 9))
    assert group.write(50).name == "secondary"
    group.restart("primary")
    group.until(group.protected)
    assert group.write(51).name == "secondary"
    assert group["primary"].status()["role"] == "secondary"


@pytest.mark.parametrize("ms", STEPS_MS)
def test_leader_dies_in_each_moment_of_a_syncvm(group, ms):
    for value in range(1, 4):
        group.write(value)
    group.send(4)
    group.run(ms / 1000)
    answered = group["primary"].released
    group.kill("primary")
    group.until(group.serving)
    survivor = group["secondary"]
    assert survivor is group.serving() and survivor.has(*answered)
    assert group.write(9) is survivor


@pytest.mark.parametrize("ms", STEPS_MS)
def test_secondary_dies_in_each_moment_of_a_syncvm(group, ms):
    group.send(4)
    group.run(ms / 1000)
    group.kill("secondary")
    assert group.write(9).name == "primary"
    assert group["witness"].consensus.record.in_sync == {"primary"}
    group.restart("secondary")
    group.until(group.protected)


@pytest.mark.parametrize("ms", range(0, 180, 9))
def test_leader_dies_in_the_fill(ms):
    """Before the record names the secondary it must not lead; after that it must, with the whole state."""
    group = Rig()
    group.until(group.serving)
    group.write(3)
    group.run(ms / 1000)
    group.kill("primary")
    group.run(2.0)
    leader = group.serving()
    if leader:
        assert leader.has(3)
    else:
        assert "secondary" not in group["witness"].consensus.record.in_sync


def test_stale_member_never_leads(group):
    """The secondary is lost, the leader goes on alone and dies: the secondary's old copy must not serve."""
    group.isolate("secondary")
    group.write(9)
    group.kill("primary")
    group.rejoin("secondary")
    group.run(3.0)
    assert group.serving() is None


def test_cut_off_leader_goes_silent(group):
    group.isolate("primary")
    old = group["primary"]
    group.until(lambda: group.serving() is group["secondary"])
    before = len(old.released)
    old.call("input", group.frame(77))
    group.run(1.0)
    assert len(old.released) == before
    group.rejoin("primary")
    group.until(group.protected)
    assert group.serving().name == "secondary"
    assert 77 not in old.released


def test_witness_dies_and_nobody_notices(group):
    group.kill("witness")
    for value in range(1, 5):
        assert group.write(value).name == "primary"
    assert group.protected()


def test_two_lost_stops_the_service(group):
    group.kill("witness", "secondary")
    group.send(5)
    group.run(2.0)
    assert group["primary"].released == []
    assert group["primary"].status()["service"] == "down"


def test_leaders_qemu_dies(group):
    group.write(3)
    group["primary"].qemu_dies()
    group.until(lambda: group.serving() is group["secondary"], 2.0)
    assert group["secondary"].has(3)
    group.until(group.protected)


def test_a_candidate_that_loses_its_copy_while_the_votes_are_under_way_does_not_boot_an_empty_vm(group):
    """Found by the simulator: both QEMUs die within a message's time, and the group went on from nothing."""
    group.write(5)
    secondary = group["secondary"]
    group.kill("primary")
    group.until(lambda: secondary.consensus.role == "candidate")
    secondary.qemu_dies()
    group.run(2.0)
    assert group.serving() is None and not secondary.released
    assert "lost here" in secondary.status()["sentence"]
