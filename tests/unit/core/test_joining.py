# SPDX-License-Identifier: GPL-3.0-or-later
"""A secondary that joins: clients are served meanwhile, and one of another QEMU or machine is refused."""

from __future__ import annotations

import pytest
from plover.core import join_request
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
            assert fill.progress == ("live 100 % (0 MiB sent)" if rounds else "live 0 %")  # pages are small here
            assert not {"Drain", "SendData"} & set(leader.done)
            leader.call("dirty_fetched", ("fill", 0, 0))  # one of an earlier fill is not waited for
            assert (leader.core.leading.fill, fill.pages_sent) == (fill, sent)
            rounds += 1
        if held:
            held.pop(0)()
    assert rounds == 2 and group["secondary"].has(100)


MACHINE = {"machine_type": "pc-i440fx-7.2", "guest_machine": "pc", "guest_cpu": "qemu64"}


@pytest.mark.parametrize(
    ("here", "there", "words"),
    [
        ({}, {}, ""),
        ({}, {"qemu_version": "7.2.23"}, ""),
        ({}, {"qemu_version": "10.0.13", "guest_machine": "pc-i440fx-7.2"}, ""),
        ({"qemu_version": "9.2.1"}, {"qemu_version": "10.0.0"}, ""),  # by numbers, not by letters
        ({}, {"qemu_version": "7.2.9"}, "qemu_version is '7.2.9' there and '7.2.22' here; a running VM goes to a newer QEMU, below 11"),
        ({}, {"qemu_version": "11.1.3"}, "qemu_version is '11.1.3' there"),
        ({}, {"qemu_version": None}, "qemu_version is None there"),
        ({}, {"qemu_version": "newest"}, "qemu_version is 'newest' there"),
        ({}, {"qemu_version": "99999999.0.0"}, "qemu_version is '99999999.0.0' there"),
        (
            {},
            {"machine_type": "pc-i440fx-10.0"},
            "guest_machine is 'pc-i440fx-10.0' there and 'pc-i440fx-7.2' here, where the VM runs; set it",
        ),
        ({}, {"machine_type": 7}, ""),  # as of an earlier version, which tells none: all else is equal
        ({"guest_cpu": "max,+x"}, {"guest_cpu": "max,+x"}, ""),
        ({"guest_cpu": "max,+x"}, {"guest_cpu": "max,+x", "qemu_version": "10.0.1"}, "guest_cpu is 'max,+x', which differs between QEMU"),
    ],
)
def test_a_newer_qemu_with_the_same_machine_may_join(here, there, words):
    ours = {**FACTS, **MACHINE, **here}
    why = join_request.differences(ours, {**ours, **there})
    assert why.startswith(words) and bool(why) == bool(words)


def test_an_earlier_version_tells_no_machine_and_its_qemu_must_be_the_same():
    ours = {**FACTS, **MACHINE}
    theirs = {key: value for key, value in ours.items() if key != "machine_type"}
    assert join_request.differences(ours, theirs) == join_request.differences(theirs, ours) == ""
    theirs["qemu_version"] = "7.2.23"
    assert "qemu_version is '7.2.23' there and '7.2.22' here; make them equal" in join_request.differences(ours, theirs)
    assert "qemu_version is '7.2.22' there and '7.2.23' here; make them equal" in join_request.differences(theirs, ours)


def test_an_earlier_version_tells_no_mtu_and_has_none():
    earlier = {key: value for key, value in FACTS.items() if key != "guest_mtu"}
    assert join_request.differences({**earlier, "guest_mtu": 0}, earlier) == ""
    assert "guest_mtu is 0 there and 9000 here" in join_request.differences({**earlier, "guest_mtu": 9000}, earlier)


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
