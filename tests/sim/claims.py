# SPDX-License-Identifier: GPL-3.0-or-later
"""Shared by the tests of the paper's claims: a protected group at work, and what to look at."""

from __future__ import annotations

from functools import cache

import pytest
from plover.ports import effects

from tests.sim import guest
from tests.sim.watch import Watched

SEEDS = range(1, 5)
each_seed = pytest.mark.parametrize("seed", SEEDS)
STOPS = {"primary": effects.StopVm, "secondary": effects.ColoStop}


def protected(seed: int = 1, steady: bool = False) -> Watched:
    world = Watched(seed, steady)
    world.until(world.protected)
    world.seen.clear()
    return world


@cache
def recorded(seed: int) -> Watched:
    """One second of a protected group at work. To be read only: several tests share it."""
    return protected(seed).run(1.0)


def qemu(world: Watched, name: str) -> guest.Qemu:
    return world.hosts[name].qemu


def of_syncvm(action: object) -> int | None:
    """The number of the syncvm for which ``action`` stops a VM."""
    return action.tag[2] if isinstance(action, tuple(STOPS.values())) and action.tag[0] == "syncvm" else None


def between_syncvms(world: Watched) -> Watched:
    """Run until both VMs run."""
    return world.until(lambda: world.leader().core.role.syncvm is None)


def bitmap(payload: bytes) -> set[int]:
    bits = int.from_bytes(payload, "little")
    return {page for page in range(guest.PAGES) if bits >> page & 1}
