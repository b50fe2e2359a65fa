# SPDX-License-Identifier: GPL-3.0-or-later
"""What an operator reads while an audit is under way, phase by phase of a real syncvm."""

from __future__ import annotations

import asyncio
from array import array
from types import SimpleNamespace

import pytest
from plover.ports import effects
from plover.replica import daemon
from plover.replica.audit_progress import Hashing, describe
from plover.syncvm.leader import LeaderSyncvm
from plover.syncvm.phases import DISKS, MEMORY
from plover.syncvm.phases import LeaderPhase as Phase

MIB = 1 << 20


def syncvm(audit, phase):
    out = LeaderSyncvm(2, 7, audit, memory=None)
    out._machine.phase = phase
    return out


def hashing(done, total, tag=("syncvm", 2, 7)):
    out = Hashing(tag, total, 100.0)
    out.count(done)
    return out


def said(audit, phase, memory=None, disks=None, now=102.0):
    return describe(syncvm(audit, phase), memory, disks, now)["sentence"]


def test_nothing_is_said_without_an_audit():
    assert describe(None, None, None, 0.0) is None
    assert describe(syncvm(0, Phase.HASH), hashing(1, 2), None, 0.0) is None


def test_memory_says_how_much_how_fast_and_how_long():
    memory = hashing(512 * MIB, 2048 * MIB)
    assert said(MEMORY, Phase.HASH, memory) == "memory 25 % (512 of 2048 MiB), 256 MiB/s, 6 s left"
    assert describe(syncvm(MEMORY, Phase.HASH), memory, None, 102.0) == {
        "phase": "hash",
        "percent": 25,
        "bytes": 512 * MIB,
        "bytes_total": 2048 * MIB,
        "sentence": "memory 25 % (512 of 2048 MiB), 256 MiB/s, 6 s left",
    }
    assert said(MEMORY, Phase.HASH, hashing(2048 * MIB, 2048 * MIB)) == "memory: waiting for the other host"


def test_disks_come_after_memory():
    disks = hashing(100 * MIB, 1000 * MIB)
    assert said(DISKS, Phase.LOAD, None, disks) == "disks 10 % (100 of 1000 MiB), 50 MiB/s, 18 s left"
    assert said(DISKS, Phase.DONE, None, hashing(1000 * MIB, 1000 * MIB)) == "disks: waiting for the other host"
    assert said(MEMORY, Phase.LOAD, None, disks) == "the other host loads the VM's state"


def test_what_was_hashed_for_another_syncvm_is_not_shown():
    assert said(MEMORY, Phase.HASH, hashing(1 * MIB, 2 * MIB, tag=("syncvm", 2, 6))) == "stopping both VMs"


@pytest.mark.parametrize("phase", list(Phase))
def test_each_phase_has_words(phase):
    assert said(DISKS, phase)
    assert said(MEMORY, phase)


def test_pages_are_hashed_in_parts_which_are_counted(monkeypatch):
    """In the same order, and each once."""
    monkeypatch.setattr(daemon, "PART_PAGES", 4)
    seen = []

    def work(part):
        seen.append((list(part), host._hashing.done // daemon.PAGE_BYTES))
        return array("Q", (10 * page for page in part))

    async def run():
        host.loop = asyncio.get_running_loop()
        return await daemon.Replica._in_parts(host, effects.Hash(("syncvm", 2, 7), array("I", range(10))), work)

    host = SimpleNamespace(_hashing=None)
    assert list(asyncio.run(run())) == [10 * page for page in range(10)]
    assert seen == [([0, 1, 2, 3], 0), ([4, 5, 6, 7], 4), ([8, 9], 8)]
    assert host._hashing.done == host._hashing.total == 10 * daemon.PAGE_BYTES
