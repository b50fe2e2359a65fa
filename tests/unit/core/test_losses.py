# SPDX-License-Identifier: GPL-3.0-or-later
"""The main job in a group of three, and what is left of it when members, QEMUs and wires are lost. At each of many moments:
tests/sim/test_each_moment.py.
"""

from __future__ import annotations

import pytest
from plover.protocol import wire

from tests.sim.rig import protected as protected_rig

pytestmark = pytest.mark.usefixtures("small_pages")


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
