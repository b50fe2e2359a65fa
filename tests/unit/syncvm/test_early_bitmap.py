# SPDX-License-Identifier: GPL-3.0-or-later
"""A leader that is elected anew beside its secondary goes on at once: its bitmap may come before the secondary is ready."""
from __future__ import annotations

import pytest
from cluster import PAGES, Cluster, elect_anew
from plover.native import zstd
from plover.ports import effects as act
from plover.protocol import wire
from plover.protocol.packing import pack_bitmap
from test_core import write


@pytest.fixture
def cluster():
    out = Cluster()
    out.run_until(out.protected)
    write(out, 5)
    out.run_until(lambda: not out["primary"].core.role.syncvm)
    return out


def still_protected(cluster: Cluster) -> None:
    """The next syncvm ends, without a fill in between."""
    primary = cluster["primary"]
    before = primary.core.totals["syncvms"]
    cluster.run_until(lambda: primary.core.leading and primary.core.totals["syncvms"] > before + 2)
    assert not [text for text in primary.reports if "degraded" in text], primary.reports
    assert primary.memory.ram[:600] == cluster["secondary"].memory.ram[:600]


def test_a_bitmap_that_comes_while_the_load_of_the_view_before_runs_is_kept(cluster):
    held, node = [], cluster["secondary"]
    original = node.do

    def do(action):
        original(action)
        if isinstance(action, act.ColoLoad) and not held:
            held.append(node.answers.pop())  # the load takes as long as it likes

    node.do = do
    cluster.send(7)
    cluster.run_until(lambda: held)
    elect_anew(cluster["primary"])
    cluster.run_until(lambda: cluster["primary"].core.leading)
    cluster.run(0.05)
    cluster.send(8)
    cluster.run_until(lambda: getattr(cluster["primary"].core.role.syncvm, "phase", "") == "exchange")
    cluster.run(0.02)
    assert node.core.role.syncvm.must_load
    node.answers.append(held[0])
    still_protected(cluster)


def test_a_bitmap_that_overtakes_the_news_of_its_view_is_kept(cluster):
    """Data and control are two channels."""
    core = cluster["secondary"].core.at(cluster.now)
    view, bitmap = core.consensus.view + 1, pack_bitmap(zstd, bytearray(PAGES // 8))
    core.data(wire.Bitmap(view, 99, 0, bitmap))
    assert core.role.syncvm is None
    core.control("witness", wire.VoteReply(view, False, False, False, 0, 0))
    assert (core.consensus.view, core.role.syncvm.number, core.role.syncvm._peer.view) == (view, 99, view)


def test_of_bitmaps_that_come_too_early_the_last_one_is_kept_and_one_of_a_view_that_never_was_is_not_used(cluster):
    core = cluster["secondary"].core.at(cluster.now)
    view, bitmap = core.consensus.view, pack_bitmap(zstd, bytearray(PAGES // 8))
    for ahead in (1, 2):
        core.data(wire.Bitmap(view + ahead, 99, 0, bitmap))
    core.control("witness", wire.VoteReply(view + 3, False, False, False, 0, 0))
    assert core.role.syncvm is None and core.role._early is None
