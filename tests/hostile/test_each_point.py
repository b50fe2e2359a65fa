# SPDX-License-Identifier: GPL-3.0-or-later
"""The quick part: one fault at each point; and the points are all there are."""

from __future__ import annotations

import pytest
from cases import POINTS, SAMPLE
from hostile_group import REPLICAS
from play import play

# The library's own, before there is a connection. And those that bring a descriptor along, which the double only passes on.
NOT_FAILED = {"qmp:qmp_capabilities", "qmp:getfd", "qmp:add-fd"}


@pytest.mark.parametrize("case", SAMPLE, ids=str)
def test_the_service_goes_on(stage, case):
    play(stage, case)


def test_no_command_of_the_daemons_is_forgotten_here(stage):
    """All that they sent to well-behaved QEMUs while they filled, ran, failed over and audited."""
    group = stage.group
    leader, _secondary = group.protected()
    assert group.ctl(leader, "switchover")["ok"]
    stage.client.ask()
    group.audit()
    seen = {point for member in REPLICAS for point in group.orders[member].points()}
    assert seen - NOT_FAILED == {point for _role, point, _trigger, _ways in POINTS}
