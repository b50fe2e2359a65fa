# SPDX-License-Identifier: GPL-3.0-or-later
"""The leader's own images in the core: a write that was lost, overlays that are not merged, a VM that waits for its disk."""

from __future__ import annotations

import pytest
from plover.core.own_disks import AGAIN_S, AGAIN_S_MAX, OwnDisks
from plover.core.reprotection import ABSENT
from plover.replica.disk_work import SinceSyncvm

from tests.sim.rig import Rig, Seat, protected

pytestmark = pytest.mark.usefixtures("small_pages")

DISK = {"path": "/images/a.img"}
EIO = "Input/output error"


@pytest.fixture
def group():
    return protected(disks=[DISK])


# --- a write that the guest took for done ---


def test_nothing_that_a_vm_did_after_a_lost_write_goes_to_the_secondary(group):
    leader = group["primary"]
    leader.done.clear()
    leader.call("disk_failed", "image0", EIO, True)
    assert not leader.vm
    group.until(lambda: group.serving() is group["secondary"])
    assert not {"SaveDevice", "StopVm", "ContVm", "Emit"} & set(leader.done)
    assert group.write(7) is group["secondary"]


def test_a_handover_that_fails_does_not_leave_the_leader_alone_with_an_image_that_lacks_a_write(group):
    leader = group["primary"]
    group.kill("secondary")
    leader.call("disk_failed", "image0", EIO, True)
    group.run(3.0)
    assert group.serving() is None and not leader.vm
    group.restart("secondary")  # with what is on its disk: not the VM's memory
    leader.done.clear()
    group.run(3.0)
    assert group.serving() is None and "CopyDisks" not in leader.done


def test_a_syncvm_that_is_under_way_is_given_up(group):
    """Its stop is over, and it may have copied what the guest made of an old block."""
    leader = group["primary"]
    leader.audit()
    group.until(lambda: leader.core.leading.syncvm and leader.core.leading.vm_stopped_by_us)
    leader.call("disk_failed", "image0", EIO, True)
    group.until(lambda: group.serving() is group["secondary"])


def until_recording(group: Rig):
    """A group whose new secondary is filled, and its record on the way."""
    leader = group["primary"]
    group.until(lambda: leader.core.leading and leader.core.leading.fill and leader.core.leading.fill.phase == "recording")
    return leader


def test_beside_a_secondary_that_is_not_recorded_yet_the_vm_stands_still_until_it_is():
    group = Rig(disks=[DISK])
    leader = until_recording(group)
    leader.done.clear()
    leader.call("disk_failed", "image0", EIO, True)
    assert leader.done == ["StopVm", "Report"]
    group.until(lambda: group.serving() is group["secondary"])
    assert "ContVm" not in leader.done[: leader.done.index("KillQemu")]


def test_without_that_record_nobody_goes_on():
    group = Rig(disks=[DISK])
    leader = until_recording(group)
    leader.call("disk_failed", "image0", EIO, True)
    group.kill("secondary", "witness")
    group.run(3.0)
    assert group.serving() is None and not leader.vm


def test_a_lost_write_beside_a_secondary_that_was_just_dropped_stops_the_vm(group):
    leader = group["primary"]
    leader.core.leading.reprotection.drop("it is slow")
    leader.call("disk_failed", "image0", EIO, True)
    assert not leader.vm
    assert any("the guest was told that the write is done" in text for text in leader.reports)


def test_a_lost_write_of_a_deposed_leader_ends_its_vm(group):
    leader = group["primary"]
    group.isolate("primary")
    group.until(lambda: group.serving() is group["secondary"])
    leader.call("disk_failed", "image0", EIO, True)
    assert not leader.vm


def test_an_error_that_the_guest_was_told_of_is_reported_and_no_more():
    group = protected(disks=[DISK])
    leader = group["primary"]
    group.kill("secondary")
    group.until(lambda: leader.status()["service"] == "degraded")
    leader.call("disk_failed", "image0", EIO, False)
    assert leader.vm and group.write(9) is leader
    assert any("no other host is in sync; see to it now" in text for text in leader.reports)


def test_an_image_that_fails_is_not_copied_at_that_moment():
    """QEMU tells of one image's errors once a second at most: the next one may be a lost write."""
    group = Rig(disks=[DISK])
    leader = group["primary"]
    group.until(lambda: leader.core.leading and leader.core.leading.fill)
    leader.call("disk_failed", "image0", EIO, False)
    began = group.now
    assert leader.core.leading.fill is None
    group.until(lambda: leader.core.leading.fill is not None)
    assert group.now - began > 1.5


# --- the merge after a failover ---


def promoted() -> tuple[Rig, Seat]:
    """The secondary leads, its disks are not merged yet, and the old leader is back and asks to be filled."""
    group = protected(disks=[DISK])
    node = group["secondary"]
    node.tells["disks_merged"] = None  # not yet
    group.kill("primary")
    group.until(lambda: group.serving() is node)
    group.restart("primary")
    group.run(2.0)
    return group, node


def test_no_secondary_is_filled_before_the_disks_are_merged():
    group, leader = promoted()
    status = leader.status()
    assert status["service"] == "degraded" and "CopyDisks" not in leader.done
    assert status["reason"] == "its disks are being merged after the failover"
    assert status["disk_state"] == {"state": "merging", "error": ""}
    leader.tells.clear()
    leader.call("disks_merged")
    group.until(group.protected)
    assert leader.status()["disk_state"] == {"state": "whole", "error": ""}


def test_a_merge_that_fails_is_reported_and_asked_for_again():
    group, leader = promoted()
    for n in range(4):
        leader.call("disks_unmerged", "disk 0: no room")
        assert leader.status()["disk_state"] == {"state": "not merged", "error": "disk 0: no room"}
        assert f"(disk 0: no room; tried again {n} times)" in leader.status()["sentence"]
        group.until(lambda n=n: leader.done.count("MergeDisks") == n + 1)
    assert any("no secondary can be filled: disk 0: no room" in text for text in leader.reports)
    assert "CopyDisks" not in leader.done
    leader.tells.clear()
    leader.call("disks_merged")
    group.until(group.protected)


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
    group = Rig(disks=[DISK])
    group.until(lambda: group.serving() is not None)
    assert not group.serving().core.leading.own.merging


def test_a_merge_that_fails_does_not_vex_a_follower(group):
    for event in ("disks_merged", "disks_unmerged", "vm_waits_for_disk"):
        group["secondary"].call(event, *(["late"] if event != "disks_merged" else []))
    assert group.protected()


# --- QEMU stops the VM where its disk has no room ---


def test_a_vm_that_waits_for_its_disk_is_tried_again_and_shown():
    group = Rig(disks=[DISK])
    group.until(lambda: group.serving() is not None)
    leader = group["primary"]
    group.kill("secondary")
    group.until(lambda: leader.core.leading.reprotection.state is ABSENT and leader.status()["service"] == "degraded")
    leader.done.clear()
    leader.call("vm_waits_for_disk", "No space left on device")
    status = leader.status()
    assert status["service"] == "down" and "its disk has an error on this host: No space left" in status["sentence"]
    group.until(lambda: "ContVm" in leader.done)
    group.run(6.0)
    assert leader.status()["service"] == "degraded"
    assert leader.done.count("ContVm") == 1


# --- what the overlays hold ---


def test_what_was_written_since_a_syncvm_counts_from_the_last_look_before_it():
    since = SinceSyncvm()
    looks = ((0, 5), (0, 9), (1, 20), (1, 21), (3, 30), (3, 30))
    assert [since.look(n, written) for n, written in looks] == [5, 9, 11, 12, 9, 9]
