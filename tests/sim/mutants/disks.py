# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks broken on purpose: images, copies, merges and their marks."""

from __future__ import annotations

from plover.core import cold_start, routes, transitions
from plover.core.disk_writes import DiskWrites
from plover.core.leader import Leader
from plover.core.own_disks import OwnDisks
from plover.core.reprotection import Reprotection
from plover.disks.local_images import LocalImages
from plover.syncvm.initial_sync import LeaderInitialSync

from ..disk_work import DiskWork
from ..host import Host
from .registry import mutant


@mutant("with a disk, the leader's VM runs on while the secondary loads, and its writes do not wait")
def writes_before_load() -> None:
    DiskWork.hold = lambda self: None


@mutant("a syncvm is given up, and the writes go to a secondary that may load it nonetheless")
def writes_of_a_syncvm_given_up() -> None:
    DiskWrites.abandon = lambda self, may_load: self.go_on()


@mutant("with a disk, the leader's VM runs on before a filled secondary has loaded")
def writes_before_filled() -> None:
    good, stops_input = Reprotection.fill_progress, LeaderInitialSync.stops_input.fget

    def fill_progress(self, actions):
        good(self, actions)
        if self.fill and self.fill.phase == "loading":
            self._leader.run_on()

    Reprotection.fill_progress = fill_progress
    LeaderInitialSync.stops_input = property(lambda self: self.phase != "loading" and stops_input(self))


@mutant("a leader does not forget of which copy its image was")
def copy_not_forgotten() -> None:
    DiskWork.forget_copies = lambda self: None


@mutant("nobody asks whether the secondary's disk took the writes")
def disk_errors_not_asked() -> None:
    routes.LEADER["disk_failed"] = routes.SECONDARY["disk_failed"] = lambda roles, role, *said: None


@mutant("a leader whose own image lost a write hands over with one more syncvm")
def lost_write_handed_over() -> None:
    good = Leader.disk_failed

    def disk_failed(self, node, error, lost=False):
        if not self.protected or node.startswith("peer"):
            return good(self, node, error, lost)
        self.switchover.ask(lambda error: None)
        self.maybe_syncvm()

    Leader.disk_failed = disk_failed


@mutant("a secondary is filled though the disks are not merged after the failover")
def filled_before_merged() -> None:
    OwnDisks.merging = property(lambda self: False, lambda self, value: None)


@mutant("a merge that failed is not begun again")
def merge_given_up() -> None:
    OwnDisks.merge_again = lambda self, now: False


@mutant("a copy begun before a power loss still counts after it")
def begun_copy_outlives_power_loss() -> None:
    good = Host.lose_unsynced

    def lose_unsynced(self):
        begun = self.copies_begun
        good(self)
        self.copies_begun = begun

    Host.lose_unsynced = lose_unsynced


@mutant("a cold start does not look at the marks of this host's disks")
def torn_image_booted() -> None:
    cold_start.why_torn = transitions.why_torn = lambda marks: ""


@mutant("an image into which overlays are merged is not marked")
def merge_not_marked() -> None:
    LocalImages.promoted = lambda self, view: None


@mutant("an image to which a copy has begun is not marked")
def copy_not_marked() -> None:
    LocalImages.torn = lambda self, view: None


@mutant("a copy whose sync failed keeps its name")
def lost_copy_keeps_its_name() -> None:
    DiskWork._forget_lost_copy = lambda self: None
