# SPDX-License-Identifier: GPL-3.0-or-later
"""What an operator reads about an initial sync under way."""

from __future__ import annotations

import pytest
from plover.syncvm.initial_sync import LeaderInitialSync
from plover.syncvm.phases import LeaderSyncPhase

MIB = 1 << 20


def filling(disks=True):
    fill = LeaderInitialSync(2, 1, memory=None, disks=disks)
    fill.start(100.0)
    if disks:
        fill.tracker_open()
    return fill


@pytest.mark.parametrize(
    "done, total, after_s, said",
    [
        (0, 2000 * MIB, 5.0, "copy 0 % (0 of 2000 MiB)"),
        (50 * MIB, 2000 * MIB, 0.5, "copy 2 % (50 of 2000 MiB)"),
        (800 * MIB, 2000 * MIB, 10.0, "copy 40 % (800 of 2000 MiB), 80 MiB/s, 15 s left"),
        (2000 * MIB, 2000 * MIB, 25.0, "copy 100 % (2000 of 2000 MiB), 80 MiB/s, 0 s left"),
        (0, 512, 1.0, "copy 0 %"),
        (0, 0, 1.0, "copy 0 %"),
    ],
)
def test_a_copy_of_disks_says_how_much_how_fast_and_how_long(done, total, after_s, said):
    fill = filling()
    assert fill.phase == LeaderSyncPhase.COPY
    fill.copy_progress(done, total, 100.0 + after_s)
    assert fill.progress == said


def test_pages_are_told_in_mib():
    fill = filling(disks=False)
    assert fill.progress == "open 100 %"
    fill.pages_sent = 1024
    assert fill.progress == "open 100 % (4 MiB sent)"
