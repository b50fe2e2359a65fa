# SPDX-License-Identifier: GPL-3.0-or-later
"""A member dies at each of many moments, of a syncvm and of the fill: what was acknowledged is there."""

from __future__ import annotations

import pytest

from tests.sim.rig import Rig, protected

STEPS_MS = range(1, 40)  # a syncvm, and some time after


@pytest.fixture
def group():
    return protected()


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
