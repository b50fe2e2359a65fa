# SPDX-License-Identifier: GPL-3.0-or-later
"""The end of an initial sync: all of memory is equal on both hosts, whatever the tracker and the way there did to it."""

from __future__ import annotations

import json
from array import array

import pytest
from plover.errors import WireError
from plover.protocol import wire
from plover.syncvm import initial_sync_check as fill_check
from plover.syncvm.initial_sync import CHECKS_MAX, LeaderInitialSync, SecondaryInitialSync
from plover.syncvm.phases import LeaderSyncPhase

from tests.sim.guest import BYTES, PAGES
from tests.sim.rig import Rig, protected

pytestmark = pytest.mark.usefixtures("small_pages")

WRITTEN = range(20, 56)  # what no test's clients use


def filling(group, until=lambda fill: True):
    """Run until the leader fills its secondary and ``until``; its fill."""

    def reached():
        leading = group["primary"].core.leading
        return leading is not None and leading.fill is not None and until(leading.fill)

    group.until(reached)
    return group["primary"].core.leading.fill


def write_all(group, value):
    for page in WRITTEN:
        group["primary"].guest_writes(page, value + page)


def same(group):
    return group["primary"].memory.ram == group["secondary"].memory.ram


def test_a_write_that_the_tracker_forgot_is_found_sent_and_counted():
    group = Rig()
    primary = group["primary"]
    fill = filling(group, lambda fill: fill.pages_sent or fill._next)
    assert fill.phase == "live"
    # The tracker forgets them: they are written after they were sent, and it never tells.
    group.until(lambda: fill._next >= 60)
    forgotten = range(20, 40)
    for page in forgotten:
        primary.memory.ram[page] = 7000 + page
    group.until(group.protected)
    assert same(group) and primary.memory.ram[39] == 7039
    group.run(0.01)
    status = primary.status()
    assert status["fill_pages_mismatching"] == 20 and status["service"] == "protected"
    assert status["sentence"].endswith("its initial sync found and mended 20 pages that differed")
    assert any("FAULT: the initial sync of secondary found 20 pages that differ" in text for text in primary.reports)
    group.kill("primary")
    group.until(group.serving, 3.0)
    assert group.serving().memory.ram[20:40] == [7000 + page for page in forgotten]


def test_a_sync_without_a_fault_compares_once_and_counts_nothing():
    group = Rig()
    fill = filling(group)
    write_all(group, 1)
    group.until(group.protected)
    assert same(group) and fill.pages_mismatching == 0 == group["primary"].status()["fill_pages_mismatching"]
    assert len(group.got(wire.FillCheck)) == 1
    assert sum(len(seen.thing.payload) for seen in group.got(wire.FillHashes)) == 8 * PAGES


def test_nothing_is_recorded_before_all_is_compared():
    """The secondary's answer does not come: no in-sync record, no output, and in the end the leader goes on alone."""
    group = Rig()
    primary = group["primary"]
    primary.hold(wire.FillHashes)
    fill = filling(group, lambda fill: fill.phase == LeaderSyncPhase.CHECK)
    assert fill.holds_output and fill.stops_input
    group.send(5)
    group.run(0.3)
    assert primary.consensus.record.in_sync == {"primary"} and not primary.released
    group.until(lambda: primary.core.leading.fill is not fill, 5.0)
    assert any("the last step of the fill took longer" in text for text in primary.reports)
    primary.let_go(wire.FillHashes)
    group.until(group.protected)
    group.run(0.1)
    assert primary.released == [5]


def test_memory_that_never_becomes_equal_is_not_recorded():
    group = Rig()
    primary, apply = group["primary"], group["secondary"].memory.apply

    def damaged(index, data):
        apply(index, data)
        if 33 in index:
            group["secondary"].memory.ram[33] ^= 1

    group["secondary"].memory.apply = damaged
    filling(group)
    primary.guest_writes(33, 1000)
    group.until(lambda: "still differs" in primary.core.leading.reprotection.note, 5.0)
    assert primary.consensus.record.in_sync == {"primary"}
    assert f"after {CHECKS_MAX} looks; set syncvm_dirty_tracking to scan" in primary.status()["sentence"]
    assert primary.status()["fill_pages_mismatching"] == CHECKS_MAX
    group.run(0.01)
    assert primary.qemu.running and "ContVm" in primary.done


def test_pages_are_never_lent_in_an_initial_sync():
    """The network card may read a lent page after the VM runs on: then it is of no moment at all."""
    group = Rig()

    def lend(index):
        raise AssertionError(f"pages {list(index)[:3]} lent while the VM runs")

    group["primary"].memory.lend = lend
    filling(group)
    write_all(group, 1)
    group.until(group.protected)
    assert same(group)


def test_a_joiner_of_an_older_version_is_not_asked():
    group = Rig()

    def older(src, m):
        if not isinstance(m, wire.JoinRequest):
            return src, m
        facts = json.loads(m.payload)
        del facts["checks"]
        return src, wire.JoinRequest(m.view, json.dumps(facts).encode())

    group["primary"].tells["control"] = older
    group.until(group.protected)
    assert group.got(wire.FillCheck) == [] and same(group)


def test_memory_is_hashed_in_parts(monkeypatch):
    monkeypatch.setattr(fill_check, "PART_PAGES", 10)
    group = protected()
    assert [len(seen.thing.payload) // 8 for seen in group.got(wire.FillHashes)] == [10] * 6 + [4]


@pytest.mark.parametrize("payload", [b"", b"1234567", bytes(8 * PAGES + 8)])
def test_hashes_of_another_number_are_refused(payload):
    group = Rig()
    fill = filling(group, lambda fill: fill.phase == LeaderSyncPhase.CHECK)
    with pytest.raises(WireError, match="bytes of hashes after"):
        fill.on_hashes(wire.FillHashes(fill.view, fill.join, payload))


def test_what_comes_out_of_turn_is_refused():
    memory = protected()["secondary"].memory
    leader, joiner = LeaderInitialSync(1, 1, memory), SecondaryInitialSync(1, 1, memory)
    with pytest.raises(WireError, match="in phase open"):
        leader.on_hashes(wire.FillHashes(1, 1, bytes(8)))
    with pytest.raises(WireError, match="3 pages announced, 0 came"):
        joiner.on_check(wire.FillCheck(1, 1, 3))
    assert joiner.on_check(wire.FillCheck(1, 1, 0))
    for message, handler in (
        (wire.FillPages(1, 1, 1, bytes(4 + BYTES)), joiner.on_pages),
        (wire.FillCheck(1, 1, 0), joiner.on_check),
        (wire.FillState(1, 1, 0, 0), joiner.on_state),
    ):
        with pytest.raises(WireError):
            handler(message)
    joiner.hashed(array("Q", bytes(8 * PAGES)))
    assert joiner.on_pages(wire.FillPages(1, 1, 1, bytes(4 + BYTES))) == []
