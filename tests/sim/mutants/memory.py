# SPDX-License-Identifier: GPL-3.0-or-later
"""Syncvm and initial sync broken on purpose: memory of the two VMs that differs."""

from __future__ import annotations

from array import array
from dataclasses import replace

from plover.core.follower import Follower
from plover.core.scrub import Scrub
from plover.protocol.packing import unpack_state
from plover.syncvm.figures import NOTHING
from plover.syncvm.initial_sync_check import LeaderCheck
from plover.syncvm.leader import LeaderSyncvm
from plover.syncvm.secondary import SecondarySyncvm
from plover.syncvm.staging import Staging, chain_digest

from .registry import mutant


class _Other:
    """Memory, except for the methods that a derived class overrides."""

    def __init__(self, memory) -> None:
        self._memory = memory

    def __getattr__(self, name: str):
        return getattr(self._memory, name)


class _Believing(_Other):
    def compare(self, a, b, index):
        return index[:0]


class _OneSided(_Other):
    def __init__(self, memory, bitmap) -> None:
        super().__init__(memory)
        self._bitmap = bytes(bitmap)

    def union(self, a, b):
        return self._memory.pages_of(self._bitmap)


@mutant("the secondary writes pages into guest memory as they arrive")
def apply_while_receiving() -> None:
    good = Staging._keep

    def keep(self, index, data, payload):
        good(self, index, data, payload)
        self._memory.apply(index, data)

    Staging._keep = keep


@mutant("the digest of the staged pages is not compared")
def digest_not_checked() -> None:
    good = Staging.on_end

    def on_end(self, m):
        state = unpack_state(self._memory, m.payload, m.size, self._base if m.base else b"") if self.makes(m) else b""
        return good(self, replace(m, digest=chain_digest(self._memory, self.digest, state)))

    Staging.on_end = on_end


@mutant("a page that was patched with blocks is not compared with the leader's hash of it")
def patched_page_not_verified() -> None:
    good = Staging.on_blocks

    def on_blocks(self, m):
        memory, self._memory = self._memory, _Believing(self._memory)
        good(self, m)
        self._memory = memory

    Staging.on_blocks = on_blocks


@mutant("pages requested again are read from memory, where the leader's VM runs on, not from the copy")
def resent_from_memory() -> None:
    LeaderSyncvm._copied = lambda self, index: self._memory.gather(index)


@mutant("only the leader's dirty pages are compared")
def peer_bitmap_ignored() -> None:
    for cls in (LeaderSyncvm, SecondarySyncvm):

        def exchanged(self, good=cls._exchanged, leads=cls is LeaderSyncvm):
            if self._own is not None and self._peer is not None:
                mine = self._own if leads else self._peer.payload
                memory, self._memory = self._memory, _OneSided(self._memory, mine)
                out = good(self)
                self._memory = memory
                return out
            return good(self)

        cls._exchanged = exchanged


@mutant("an abandoned syncvm does not put its dirty pages back")
def dirty_pages_forgotten() -> None:
    LeaderSyncvm.abandon = SecondarySyncvm.abandon = lambda self: None


@mutant("an initial sync ends without a comparison of all of memory")
def fill_not_compared() -> None:
    LeaderCheck.differing = lambda self: array("I")


@mutant("only pages that somebody has reported as written are compared")
def scrub_off() -> None:
    Scrub.next = lambda self, now: NOTHING


@mutant("a secondary elected while it compares the disks waits for a load that has already ended")
def waits_for_no_load() -> None:
    Follower.must_finish_load = property(lambda self: self.syncvm is not None and self.syncvm.holds_new_state)
