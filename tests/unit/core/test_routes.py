# SPDX-License-Identifier: GPL-3.0-or-later
"""The tables of core/routes.py: complete, and of things that are there."""

from __future__ import annotations

import re
from typing import get_type_hints

import pytest
from plover.core import router, routes
from plover.errors import InvariantViolation, WireError
from plover.ports import effects
from plover.protocol import wire

from tests.sim.rig import Rig, protected

pytestmark = pytest.mark.usefixtures("small_pages")

# What each action's docstring says of its answer: "... -> device_saved(tag, state)."
ACTIONS = [kind for kind in vars(effects).values() if isinstance(kind, type) and issubclass(kind, tuple)]
ASKED_FOR = {name for action in ACTIONS for after in (action.__doc__ or "").split("->")[1:] for name in re.findall(r"(\w+)\(", after)} - {
    "fetch_dirty"
}
MESSAGES = [
    kind
    for tables in (
        routes.TO_LEADER,
        routes.TO_SECONDARY,
        routes.TO_LEADER_DATA,
        routes.TO_LEADER_SYNCVM,
        routes.TO_LEADER_FILL,
        routes.TO_SECONDARY_DATA,
    )
    for kind in tables
]


def test_each_answer_that_an_action_names_has_a_place():
    assert len(ASKED_FOR) > 18
    assert ASKED_FOR - router.ANSWERS == set()


def test_an_answer_that_nobody_knows_ends_the_daemon():
    core = Rig()["primary"].core
    with pytest.raises(InvariantViolation, match="knows no answer 'drowned'"):
        core.answer("drowned", ("tag",))


@pytest.mark.parametrize("event", sorted(router.ANSWERS - set(routes.LEADER) - set(routes.SECONDARY)))
def test_an_answer_to_work_that_was_given_up_is_passed_over(event):
    group = protected()
    for node in (group["primary"], group["secondary"]):
        node.core.take()
        node.core.answer(event, ("syncvm", 0, 0), b"", b"")
        assert node.core.take() == []


def test_what_goes_to_a_leader_is_no_message_to_a_secondary_nor_the_other_way():
    group = protected()
    view = group["primary"].core.consensus.view
    for name, message in (("primary", wire.StageEnd(view, 9, 0, 1, 0, 5, b"")), ("secondary", wire.Staged(view, 9))):
        with pytest.raises(WireError, match=f"{type(message).__name__} sent to"):
            group[name].core.data(message)


def test_what_carries_a_number_is_in_the_table_for_its_work():
    for table, field in ((routes.TO_LEADER_SYNCVM, "number"), (routes.TO_LEADER_FILL, "join")):
        assert all(field in get_type_hints(kind) for kind in table)
    assert len(MESSAGES) == len(set(MESSAGES)) + 2  # Bitmap and Said go both ways
