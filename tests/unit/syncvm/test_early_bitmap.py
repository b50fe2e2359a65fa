# SPDX-License-Identifier: GPL-3.0-or-later
"""A leader that is elected anew beside its secondary goes on at once: its bitmap may come before the secondary is ready."""

from __future__ import annotations

import pytest
from plover.native import zstd
from plover.ports import effects
from plover.protocol import wire
from plover.protocol.packing import pack_bitmap

from tests.sim.guest import NOISE0, PAGES
from tests.sim.rig import Rig, protected

pytestmark = pytest.mark.usefixtures("small_pages")


@pytest.fixture
def group():
    out = protected()
    out.write(5)
    out.until(lambda: not out["primary"].core.role.syncvm)
    return out


def still_protected(group: Rig) -> None:
    """The next syncvm ends, without a fill in between."""
    primary = group["primary"]
    before = primary.core.totals["syncvms"]
    group.until(lambda: primary.core.leading and primary.core.totals["syncvms"] > before + 2)
    assert not [text for text in primary.reports if "degraded" in text], primary.reports
    assert primary.memory.ram[:NOISE0] == group["secondary"].memory.ram[:NOISE0]


def enters(core, view: int) -> None:
    """Its leader speaks to it in ``view``."""
    cons = core.consensus
    core.control("primary", wire.Heartbeat(view, 1, 0, *cons.group.record_fields(cons.record)))


def test_a_bitmap_that_comes_while_the_load_of_the_view_before_runs_is_kept(group):
    secondary = group["secondary"]
    held = secondary.hold(effects.ColoLoad)  # the load takes as long as it likes
    group.send(7)
    group.until(lambda: held)
    group["primary"].elect_anew()
    group.until(lambda: group["primary"].core.leading)
    group.run(0.05)
    group.send(8)
    group.until(lambda: getattr(group["primary"].core.role.syncvm, "phase", "") == "exchange")
    group.run(0.02)
    assert secondary.core.role.syncvm.must_load
    secondary.let_go(effects.ColoLoad)
    still_protected(group)


def test_a_bitmap_that_overtakes_the_news_of_its_view_is_kept(group):
    """Data and control are two channels."""
    core = group["secondary"].core
    view, bitmap = core.consensus.view + 1, pack_bitmap(zstd, bytearray(PAGES // 8))
    core.data(wire.Bitmap(view, 99, 0, bitmap))
    assert core.role.syncvm is None
    enters(core, view)
    assert (core.consensus.view, core.role.syncvm.number, core.role.syncvm._peer.view) == (view, 99, view)


def test_of_bitmaps_that_come_too_early_the_last_one_is_kept_and_one_of_a_view_that_never_was_is_not_used(group):
    core = group["secondary"].core
    view, bitmap = core.consensus.view, pack_bitmap(zstd, bytearray(PAGES // 8))
    for ahead in (1, 2):
        core.data(wire.Bitmap(view + ahead, 99, 0, bitmap))
    enters(core, view + 3)
    assert core.role.syncvm is None and core.role._early is None
