# SPDX-License-Identifier: GPL-3.0-or-later
"""The end of an initial sync: all of memory is equal on both hosts, whatever the tracker and the way there did to it."""
from __future__ import annotations

import json
from array import array

import pytest
from cluster import PAGES, Cluster
from plover.errors import WireError
from plover.protocol import wire
from plover.syncvm import initial_sync_check as fill_check
from plover.syncvm.initial_sync import CHECKS_MAX, LeaderInitialSync, SecondaryInitialSync
from plover.syncvm.phases import LeaderSyncPhase

WRITTEN = range(20, 600)


def filling(cluster, until=lambda fill: True):
    """Run until the leader fills its secondary and ``until``; its fill."""
    def reached():
        leading = cluster["primary"].core.leading
        return leading is not None and leading.fill is not None and until(leading.fill)
    cluster.run_until(reached)
    return cluster["primary"].core.leading.fill


def write_all(cluster, value):
    for page in WRITTEN:
        cluster["primary"].memory.guest_write(page, value + page)


def same(cluster):
    return cluster["primary"].memory.ram == cluster["secondary"].memory.ram


def watch(cluster, kind):
    """The messages of ``kind`` from now on."""
    found, post = [], cluster.post

    def posted(src, to, message, channel):
        if isinstance(message, kind):
            found.append(message)
        post(src, to, message, channel)
    cluster.post = posted
    return found


def test_a_write_that_the_tracker_forgot_is_found_sent_and_counted():
    cluster = Cluster()
    fill = filling(cluster, lambda fill: fill.pages_sent or fill._next)
    assert fill.phase == "live"
    # The tracker forgets them: they are written after they were sent, and it never tells.
    cluster.run_until(lambda: fill._next >= 512)
    memory = cluster["primary"].memory
    for page in range(20, 60):
        memory.ram[page] = 7000 + page
    cluster.run_until(cluster.protected)
    assert same(cluster) and memory.ram[59] == 7059
    status = cluster["primary"].core.status()
    assert status["fill_pages_mismatching"] == 40 and status["service"] == "protected"
    assert status["sentence"].endswith("its initial sync found and mended 40 pages that differed")
    assert any("FAULT: the initial sync of secondary found 40 pages that differ" in text
               for text in cluster["primary"].reports)
    cluster.kill("primary")
    cluster.run_until(lambda: cluster.leader() is not None, 3.0)
    assert cluster.leader().memory.ram[20:60] == list(range(7020, 7060))


def test_a_sync_without_a_fault_compares_once_and_counts_nothing():
    cluster = Cluster()
    checks, hashes = watch(cluster, wire.FillCheck), watch(cluster, wire.FillHashes)
    fill = filling(cluster)
    write_all(cluster, 1)
    cluster.run_until(cluster.protected)
    assert same(cluster) and fill.pages_mismatching == 0 == cluster["primary"].core.status()["fill_pages_mismatching"]
    assert len(checks) == 1 and sum(len(m.payload) for m in hashes) == 8 * PAGES


def test_nothing_is_recorded_before_all_is_compared(monkeypatch):
    """The secondary's answer does not come: no in-sync record, no output, and in the end the leader goes on alone."""
    cluster = Cluster()
    post = cluster.post
    cluster.post = lambda src, to, m, channel: None if isinstance(m, wire.FillHashes) else post(src, to, m, channel)
    fill = filling(cluster, lambda fill: fill.phase == LeaderSyncPhase.CHECK)
    assert fill.holds_output and fill.stops_input
    sent = cluster.send(5)
    cluster.run(0.3)
    assert cluster["primary"].consensus.record.in_sync == {"primary"} and not cluster["primary"].released
    cluster.run_until(lambda: cluster["primary"].core.leading.fill is not fill, 5.0)
    assert any("the last step of the fill took longer" in text for text in cluster["primary"].reports)
    cluster.post = post
    cluster.run_until(cluster.protected)
    assert cluster["primary"].released == [sent]


def test_memory_that_never_becomes_equal_is_not_recorded():
    cluster = Cluster()
    apply = cluster["secondary"].memory.apply

    def damaged(index, data):
        apply(index, data)
        if 33 in index:
            cluster["secondary"].memory.ram[33] ^= 1
    cluster["secondary"].memory.apply = damaged
    filling(cluster)
    cluster["primary"].memory.guest_write(33, 1000)
    cluster.run_until(lambda: "still differs" in cluster["primary"].core.leading.reprotection.note, 5.0)
    assert cluster["primary"].consensus.record.in_sync == {"primary"}
    assert f"after {CHECKS_MAX} looks; set syncvm_dirty_tracking to scan" in cluster["primary"].core.status()["sentence"]
    assert cluster["primary"].core.status()["fill_pages_mismatching"] == CHECKS_MAX
    assert cluster["primary"].running and "ContVm" in cluster["primary"].done


def test_pages_are_never_lent_in_an_initial_sync():
    """The network card may read a lent page after the VM runs on: then it is of no moment at all."""
    cluster = Cluster()

    def lend(index):
        raise AssertionError(f"pages {list(index)[:3]} lent while the VM runs")
    cluster["primary"].memory.lend = lend
    filling(cluster)
    write_all(cluster, 1)
    cluster.run_until(cluster.protected)
    assert same(cluster)


def test_a_joiner_of_an_older_version_is_not_asked():
    cluster = Cluster()
    checks, post = watch(cluster, wire.FillCheck), cluster.post

    def older(src, to, m, channel):
        if isinstance(m, wire.JoinRequest):
            facts = json.loads(m.payload)
            del facts["checks"]
            m = wire.JoinRequest(m.view, json.dumps(facts).encode())
        post(src, to, m, channel)
    cluster.post = older
    cluster.run_until(cluster.protected)
    assert checks == [] and same(cluster)


def test_memory_is_hashed_in_parts(monkeypatch):
    monkeypatch.setattr(fill_check, "PART_PAGES", 100)
    cluster = Cluster()
    hashes = watch(cluster, wire.FillHashes)
    cluster.run_until(cluster.protected)
    assert [len(m.payload) // 8 for m in hashes] == [100] * 6 + [40]


@pytest.mark.parametrize("payload", [b"", b"1234567", bytes(8 * PAGES + 8)])
def test_hashes_of_another_number_are_refused(payload):
    cluster = Cluster()
    fill = filling(cluster, lambda fill: fill.phase == LeaderSyncPhase.CHECK)
    with pytest.raises(WireError, match="bytes of hashes after"):
        fill.on_hashes(wire.FillHashes(fill.view, fill.join, payload))


def test_what_comes_out_of_turn_is_refused():
    memory = Cluster()["secondary"].memory
    leader, joiner = LeaderInitialSync(1, 1, memory), SecondaryInitialSync(1, 1, memory)
    with pytest.raises(WireError, match="in phase open"):
        leader.on_hashes(wire.FillHashes(1, 1, bytes(8)))
    with pytest.raises(WireError, match="3 pages announced, 0 came"):
        joiner.on_check(wire.FillCheck(1, 1, 3))
    assert joiner.on_check(wire.FillCheck(1, 1, 0))
    for message, handler in ((wire.FillPages(1, 1, 1, bytes(4100)), joiner.on_pages),
                             (wire.FillCheck(1, 1, 0), joiner.on_check), (wire.FillState(1, 1, 0, 0), joiner.on_state)):
        with pytest.raises(WireError):
            handler(message)
    joiner.hashed(array("Q", bytes(8 * PAGES)))
    assert joiner.on_pages(wire.FillPages(1, 1, 1, bytes(4100))) == []
