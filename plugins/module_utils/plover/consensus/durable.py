# SPDX-License-Identifier: GPL-3.0-or-later
"""The durable state of a member: view, vote and in-sync record (docs/ARCHITECTURE.md, invariant 3). Values only;
host/store.py keeps them on disk."""

from __future__ import annotations

from typing import NamedTuple


class Record(NamedTuple):
    """The replicas that hold the VM's state, or ``off``: its guest has powered it off, and they have its disks as it left them.
    Ordered by (view, version); version 0 = the VM was never booted."""

    view: int = 0
    version: int = 0
    in_sync: frozenset[str] = frozenset()
    off: bool = False

    @property
    def order(self) -> tuple[int, int]:
        return (self.view, self.version)


class Durable(NamedTuple):
    view: int = 0
    voted_for: str | None = None
    record: Record = Record()
