# SPDX-License-Identifier: GPL-3.0-or-later
"""The leader's own images in the core: a write that was lost, overlays that are not merged, a VM that waits for its disk."""
from __future__ import annotations

import pytest
from cluster import Cluster
from plover.core.own_disks import AGAIN_S, AGAIN_S_MAX, OwnDisks
from plover.core.reprotection import ABSENT
from plover.replica.disk_work import SinceSyncvm
from test_core import write

DISK = {"path": "/images/a.img"}
EIO = "Input/output error"


@pytest.fixture
def cluster():
    out = Cluster(disks=[DISK])
    out.run_until(out.protected)
    return out


def tell(node, event: str, *arguments: object) -> None:
    node.core.at(node.cluster.now).answer(event, *arguments)
    node.pump()


# --- a write that the guest took for done ---

def test_nothing_that_a_vm_did_after_a_lost_write_goes_to_the_secondary(cluster):
    leader = cluster["primary"]
    leader.done.clear()
    tell(leader, "disk_failed", "image0", EIO, True)
    assert not leader.qemu
    cluster.run_until(lambda: cluster.leader() is cluster["secondary"])
    assert not {"SaveDevice", "StopVm", "ContVm", "Emit"} & set(leader.done)
    assert write(cluster, 7) is cluster["secondary"]


def test_a_handover_that_fails_does_not_leave_the_leader_alone_with_an_image_that_lacks_a_write(cluster):
    leader = cluster["primary"]
    cluster.kill("secondary")
    tell(leader, "disk_failed", "image0", EIO, True)
    cluster.run(3.0)
    assert cluster.leader() is None and not leader.qemu
    cluster.restart("secondary")  # with what is on its disk: not the VM's memory
    leader.done.clear()
    cluster.run(3.0)
    assert cluster.leader() is None and "CopyDisks" not in leader.done


def test_a_syncvm_that_is_under_way_is_given_up(cluster):
    """Its stop is over, and it may have copied what the guest made of an old block."""
    leader = cluster["primary"]
    leader.core.at(cluster.now).audit(lambda answer: None)
    leader.pump()
    cluster.run_until(lambda: leader.core.leading.syncvm and leader.core.leading.vm_stopped_by_us)
    tell(leader, "disk_failed", "image0", EIO, True)
    cluster.run_until(lambda: cluster.leader() is cluster["secondary"])


def until_recording(cluster: Cluster):
    """A group whose new secondary is filled, and its record on the way."""
    leader = cluster["primary"]
    cluster.run_until(lambda: leader.core.leading and leader.core.leading.fill
                      and leader.core.leading.fill.phase == "recording")
    return leader


def test_beside_a_secondary_that_is_not_recorded_yet_the_vm_stands_still_until_it_is():
    cluster = Cluster(disks=[DISK])
    leader = until_recording(cluster)
    leader.done.clear()
    tell(leader, "disk_failed", "image0", EIO, True)
    assert leader.done == ["StopVm", "Report"]
    cluster.run_until(lambda: cluster.leader() is cluster["secondary"])
    assert "ContVm" not in leader.done[:leader.done.index("KillQemu")]


def test_without_that_record_nobody_goes_on():
    cluster = Cluster(disks=[DISK])
    leader = until_recording(cluster)
    tell(leader, "disk_failed", "image0", EIO, True)
    cluster.kill("secondary")
    cluster.kill("witness")
    cluster.run(3.0)
    assert cluster.leader() is None and not leader.qemu


def test_a_lost_write_beside_a_secondary_that_was_just_dropped_stops_the_vm(cluster):
    leader = cluster["primary"]
    leader.core.at(cluster.now).leading.reprotection.drop("it is slow")
    tell(leader, "disk_failed", "image0", EIO, True)
    assert not leader.qemu
    assert any("the guest was told that the write is done" in text for text in leader.reports)


def test_a_lost_write_of_a_deposed_leader_ends_its_vm(cluster):
    leader = cluster["primary"]
    cluster.cut |= {frozenset(("primary", other)) for other in ("secondary", "witness")}
    cluster.run_until(lambda: cluster.leader() is cluster["secondary"])
    tell(leader, "disk_failed", "image0", EIO, True)
    assert not leader.qemu


def test_an_error_that_the_guest_was_told_of_is_reported_and_no_more():
    cluster = Cluster(disks=[DISK])
    cluster.run_until(cluster.protected)
    leader = cluster["primary"]
    cluster.kill("secondary")
    cluster.run_until(lambda: leader.core.status()["service"] == "degraded")
    tell(leader, "disk_failed", "image0", EIO, False)
    assert leader.qemu and write(cluster, 9) is leader
    assert any("no other host is in sync; see to it now" in text for text in leader.reports)


def test_an_image_that_fails_is_not_copied_at_that_moment():
    """QEMU tells of one image's errors once a second at most: the next one may be a lost write."""
    cluster = Cluster(disks=[DISK])
    leader = cluster["primary"]
    cluster.run_until(lambda: leader.core.leading and leader.core.leading.fill)
    tell(leader, "disk_failed", "image0", EIO, False)
    began = cluster.now
    assert leader.core.leading.fill is None
    cluster.run_until(lambda: leader.core.leading.fill is not None)
    assert cluster.now - began > 1.5


# --- the merge after a failover ---

def promoted() -> tuple[Cluster, object]:
    """The secondary leads, its disks are not merged yet, and the old leader is back and asks to be filled."""
    cluster = Cluster(disks=[DISK])
    cluster.run_until(cluster.protected)
    node = cluster["secondary"]
    node.merges = False
    cluster.kill("primary")
    cluster.run_until(lambda: cluster.leader() is node)
    cluster.restart("primary")
    cluster.run(2.0)
    return cluster, node


def test_no_secondary_is_filled_before_the_disks_are_merged():
    cluster, leader = promoted()
    status = leader.core.status()
    assert status["service"] == "degraded" and "CopyDisks" not in leader.done
    assert status["reason"] == "its disks are being merged after the failover"
    assert status["disk_state"] == {"state": "merging", "error": ""}
    tell(leader, "disks_merged")
    cluster.run_until(cluster.protected)
    assert leader.core.status()["disk_state"] == {"state": "whole", "error": ""}


def test_a_merge_that_fails_is_reported_and_asked_for_again():
    cluster, leader = promoted()
    for n in range(4):
        tell(leader, "disks_unmerged", "disk 0: no room")
        assert leader.core.status()["disk_state"] == {"state": "not merged", "error": "disk 0: no room"}
        assert f"(disk 0: no room; tried again {n} times)" in leader.core.status()["sentence"]
        cluster.run_until(lambda n=n: leader.done.count("MergeDisks") == n + 1)
    assert any("no secondary can be filled: disk 0: no room" in text for text in leader.reports)
    assert "CopyDisks" not in leader.done
    tell(leader, "disks_merged")
    cluster.run_until(cluster.protected)


def test_tries_to_merge_get_rarer():
    own, now, waited = OwnDisks(True), 0.0, []
    for _ in range(9):
        own.merge_failed(now, "no")
        began = now
        while not own.merge_again(now):
            now += 0.25
        waited.append(now - began)
    assert waited[:3] == [AGAIN_S, 2 * AGAIN_S, 4 * AGAIN_S] and waited[-1] == AGAIN_S_MAX


def test_a_vm_that_was_booted_here_has_nothing_to_merge():
    cluster = Cluster(disks=[DISK])
    cluster.run_until(lambda: cluster.leader() is not None)
    assert not cluster.leader().core.leading.own.merging


def test_a_merge_that_fails_does_not_vex_a_follower(cluster):
    for event in ("disks_merged", "disks_unmerged", "vm_waits_for_disk"):
        tell(cluster["secondary"], event, *(["late"] if event != "disks_merged" else []))
    assert cluster.protected()


# --- QEMU stops the VM where its disk has no room ---

def test_a_vm_that_waits_for_its_disk_is_tried_again_and_shown():
    cluster = Cluster(disks=[DISK])
    cluster.run_until(lambda: cluster.leader() is not None)
    leader = cluster["primary"]
    cluster.kill("secondary")
    cluster.run_until(lambda: leader.core.leading.reprotection.state is ABSENT and leader.core.status()["service"] == "degraded")
    leader.done.clear()
    tell(leader, "vm_waits_for_disk", "No space left on device")
    status = leader.core.status()
    assert status["service"] == "down" and "its disk has an error on this host: No space left" in status["sentence"]
    cluster.run_until(lambda: "ContVm" in leader.done)
    cluster.run(6.0)
    assert leader.core.status()["service"] == "degraded"
    assert leader.done.count("ContVm") == 1


# --- what the overlays hold ---

def test_what_was_written_since_a_syncvm_counts_from_the_last_look_before_it():
    since = SinceSyncvm()
    looks = ((0, 5), (0, 9), (1, 20), (1, 21), (3, 30), (3, 30))
    assert [since.look(n, written) for n, written in looks] == [5, 9, 11, 12, 9, 9]
