# SPDX-License-Identifier: GPL-3.0-or-later
"""A secondary that joins: clients are served meanwhile, and one of another QEMU or machine is refused."""

from __future__ import annotations

import pytest
from plover.ports import effects
from plover.protocol import wire
from plover.syncvm.phases import LeaderSyncPhase

from tests.sim.rig import Rig

pytestmark = pytest.mark.usefixtures("small_pages")
FACTS = {"qemu_version": "7.2.22", "guest_memory_mib": 256, "guest_machine": "pc"}
OTHERS = {"qemu_version": "7.2.9", "guest_memory_mib": 512, "guest_machine": "pc-i440fx-7.1"}


def test_a_fill_waits_for_its_dirty_pages_while_clients_are_served():
    """With tracking by scan they take long: hashing all of memory, in each round."""
    group = Rig()
    leader, rounds = group["primary"], 0
    held = leader.hold(effects.FetchDirty)
    while not group.protected():
        group.until(lambda: held or group.protected())
        fill = leader.core.leading.fill
        if held and fill and fill.phase == LeaderSyncPhase.LIVE:
            leader.done.clear()
            sent = fill.pages_sent
            group.write(100 + rounds)
            leader.call("data_writable")
            group.run(1.0)  # more than the others may be silent for
            assert (leader.core.leading.fill, fill.pages_sent) == (fill, sent)
            assert fill.progress == ("live 100 %" if rounds else "live 0 %")
            assert not {"Drain", "SendData"} & set(leader.done)
            leader.call("dirty_fetched", ("fill", 0, 0))  # one of an earlier fill is not waited for
            assert (leader.core.leading.fill, fill.pages_sent) == (fill, sent)
            rounds += 1
        if held:
            held.pop(0)()
    assert rounds == 2 and group["secondary"].has(100)


def answer_with(seat, facts):
    """Each QEMU that ``seat`` starts from now on says these facts of itself."""
    seat.tells["qemu_ready"] = lambda said: [facts]


@pytest.mark.parametrize(
    "different", [("qemu_version",), ("guest_memory_mib",), ("guest_machine",), tuple(OTHERS)], ids=["version", "ram", "machine", "all"]
)
def test_unequal_replicas_are_refused(different):
    """A secondary of other facts is told each of them and never joins; made equal, it does."""
    group = Rig()
    answer_with(group["primary"], FACTS)
    answer_with(group["secondary"], {**FACTS, **{key: OTHERS[key] for key in different}})
    group.until(lambda: group.got(wire.JoinRefused))
    for value in range(1, 5):
        assert group.write(value).name == "primary"
        group.run(0.5)
    refusals = [(seen.src, seen.who, seen.thing.payload.decode()) for seen in group.got(wire.JoinRefused)]
    assert len(refusals) > 3  # it asks again, and is refused again
    for src, to, text in refusals:
        assert (src, to) == ("primary", "secondary")
        assert {key for key in FACTS if f"{key} is " in text} == set(different)
        assert all(f"{key} is {OTHERS[key]!r} there and {FACTS[key]!r} here" in text for key in different)
    assert all(member.consensus.record.in_sync == {"primary"} for member in group.members.values())
    assert not group.got((wire.FillPages, wire.FillState, wire.FillDone))
    leader, secondary = group["primary"].status(), group["secondary"].status()
    assert leader["service"] == "degraded" and f"secondary cannot join: {text}" in leader["sentence"]
    assert (secondary["role"], secondary["sentence"]) == ("idle", f"refused by primary: {text}")
    assert not any(group["secondary"].memory.ram) and group["secondary"].released == []

    group.kill("secondary")
    group.restart("secondary")
    answer_with(group["secondary"], FACTS)
    group.until(group.protected)
    assert group["secondary"].has(1, 2, 3, 4)
    assert group.write(9).name == "primary"
