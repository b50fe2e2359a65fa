# SPDX-License-Identifier: GPL-3.0-or-later
"""A cold start with disks: never from a torn image or an older one, unless the operator was told the price and pays it."""

from __future__ import annotations

import pytest
from ctl_host import Says, run_ctl
from plover.consensus.durable import Durable
from plover.core import follower
from plover.core.cold_start import price
from plover.core.director import Director
from plover.core.disk_marks import INCOMPLETE, LIVE, MERGING, MISSED, UNREADABLE, WHOLE, Mark
from plover.core.force import price as price_of_force
from plover.ctl import commands as ctl
from plover.errors import InvariantViolation

from tests.sim.rig import Rig, protected

pytestmark = pytest.mark.usefixtures("small_pages")

DISK = {"path": "/images/a.img"}
TORN = (MERGING, INCOMPLETE, MISSED, UNREADABLE)


def after_a_power_loss(knows: bool = True, **marks: Mark) -> Rig:
    """The secondary led last, alone in sync; then both replicas were off, and came back. ``knows``: the primary was told."""
    group = protected(disks=[DISK])
    group.kill("primary")
    assert group.write(7) is group["secondary"]
    group.run(0.5)  # its disks are merged
    if knows:
        group.restart("primary")
        group.until(lambda: group["primary"].consensus.record.in_sync == {"secondary"})
    group.kill("secondary", "primary")
    for name in ("primary", "secondary"):
        group.restart(name)
        group[name].core.marks = (marks.get(name, Mark()),)
    group.run(1.0)
    assert group.serving() is None
    return group


def sentence(group: Rig, name: str) -> str:
    return group[name].status()["sentence"]


@pytest.mark.parametrize("state", TORN)
def test_a_torn_image_is_not_booted(state):
    group = after_a_power_loss(primary=Mark(WHOLE, 1), secondary=Mark(state, 2))
    why = group["secondary"].cold_start()
    assert why.startswith(f"refused: disks[0] is {Mark(state, 2)}. Boot the VM on primary, unless its status says ")
    assert "the VM must not be booted from here: disks[0] is" in sentence(group, "secondary")
    group.run(2.0)
    assert group.serving() is None and "StartQemu" not in group["secondary"].done


@pytest.mark.parametrize("mark", [Mark(), Mark(LIVE, 2), Mark(WHOLE, 2)])
def test_a_whole_image_is_booted_where_the_last_state_was(mark):
    group = after_a_power_loss(primary=Mark(WHOLE, 1), secondary=mark)
    assert "run this there. If that host is gone for good, or its disk is torn" in group["primary"].cold_start()
    assert "'ploverctl cold-start --yes' boots the VM afresh" in sentence(group, "secondary")
    assert group["secondary"].cold_start() is None
    group.until(group.protected)
    assert group.serving() is group["secondary"]


def test_the_older_whole_disk_is_booted_by_two_words_and_the_torn_one_is_overwritten():
    group = after_a_power_loss(primary=Mark(WHOLE, 1), secondary=Mark(MERGING, 2))
    primary = group["primary"]
    told = price(primary.core)
    assert [text.split(":")[0] for text in told] == [
        "THE VM IS BOOTED AFRESH from this host's disks",
        "disks[0] here is whole as of view 1, as the leader of that view left it. A higher view in the other replica's "
        "status means a newer disk.",
        "TIME GOES BACK",
    ]
    assert primary.cold_start(forced=True) is None
    group.run(1.0)
    assert group.serving() is None  # a quorum does not elect it
    assert "TIME GOES BACK" in price_of_force(primary.core)[1]
    assert primary.force() is None
    group.until(group.protected)
    assert group.serving() is group["primary"] and "FeedStream" in group["secondary"].done


def test_a_torn_disk_is_booted_by_force_where_it_is_the_only_one():
    group = after_a_power_loss(secondary=Mark(INCOMPLETE, 2))
    assert price(group["secondary"].core)[1].startswith("THE DISK IS DAMAGED, unless you have restored it since: disks[0] is incomplete: ")
    assert group["secondary"].cold_start(forced=True) is None
    group.until(lambda: group.serving() is group["secondary"])
    assert any("by force: THE VM IS BOOTED AFRESH" in text for text in group["secondary"].reports)


def test_a_host_that_does_not_know_that_it_is_older_is_not_elected_and_says_so():
    group = after_a_power_loss(knows=False, primary=Mark(WHOLE, 1), secondary=Mark(MERGING, 2))
    assert group["primary"].cold_start() is None
    group.run(1.0)
    assert group.serving() is None
    assert "asked to boot the VM afresh, and not elected yet" in sentence(group, "primary")
    assert "TIME MAY GO BACK" in " ".join(price_of_force(group["primary"].core))


def test_a_leader_that_lost_the_vm_is_none_to_wait_for():
    """Found by the simulator: its disk is torn, so it refuses; the other replica still believed that it led, and refused."""
    group = protected(disks=[DISK])
    group.run(0.5)  # the secondary's copy is on its disk
    primary, secondary = group["primary"], group["secondary"]
    for seat in (secondary, primary):
        seat.qemu_dies()
    group.run(0.05)
    assert secondary.cold_start() == "refused: a leader or a copy of the VM's state exists"
    group.run(1.0)
    assert group.serving() is None and secondary.consensus.leader == "primary"
    assert secondary.cold_start() is None
    group.until(group.protected)
    assert group.serving() is secondary


@pytest.mark.parametrize("state", TORN)
def test_a_new_group_does_not_boot_a_torn_image(state):
    """Its state folders are lost, and the image still knows."""
    group = Rig(disks=[DISK])
    group["primary"].core.marks = (Mark(state, 5),)
    group.run(3.0)
    assert group.serving() is None
    assert "the VM must not be booted from here" in sentence(group, "primary")
    assert group["primary"].cold_start(forced=True) is None
    group.until(group.protected)


def test_who_is_elected_all_the_same_does_not_boot_it():
    group = Rig(disks=[DISK])
    node = group["primary"]
    core = Director(node.config, Durable(), node.memory, 0.0, False, (Mark(MERGING, 5),))
    core.consensus.force_lead(0.0)
    with pytest.raises(InvariantViolation, match="nobody asked for a cold start. disks.0. is torn"):
        core.take()


def test_it_is_refused_while_somebody_holds_the_state():
    group = protected(disks=[DISK])
    for name in ("primary", "secondary"):
        assert group[name].cold_start(forced=True) == "refused: a leader or a copy of the VM's state exists"


# --- fills ---


def test_an_image_that_missed_a_write_is_never_a_source():
    group = protected(disks=[DISK])
    group.kill("secondary")
    group.run(2.0)
    leader = group["primary"]
    leader.core.marks = (Mark(MISSED, 1),)
    group.restart("secondary")
    group["primary"].done.clear()
    group.run(3.0)
    assert "CopyDisks" not in group["primary"].done and group.write(5) is group["primary"]
    reason = leader.status()["reason"]
    assert reason.startswith("secondary cannot join: disks[0] is torn: it missed a write in view 1")
    assert "Such a disk is never copied" in sentence(group, "secondary")
    leader.core.marks = (Mark(LIVE, 1),)
    group.until(group.protected)


def test_a_secondary_whose_disk_loses_the_copy_starts_over_less_and_less_often(monkeypatch):
    monkeypatch.setattr(follower, "RESTART_S", 1.0)
    group = Rig(disks=[DISK])
    node, pauses = group["secondary"], []
    for _ in range(4):
        group.until(group.protected, 30.0)
        node.done.clear()
        node.call("copy_lost", None, "Input/output error")
        group.run(0.1)
        assert "this host's disks lost what was copied to them" in group["primary"].status()["sentence"]
        assert not node.core.holds_state
        since = group.now
        group.until(lambda: "StartQemu" in node.done, 30.0)
        pauses.append(round(group.now - since))
    assert pauses == [2, 4, 8, 16]


def test_a_leader_whose_disk_loses_writes_gives_its_vm_up():
    """Found by the simulator: elected while its copy was synced, it went on with blocks that nobody had written."""
    group = protected(disks=[DISK])
    group["primary"].core.marks = (Mark(MISSED, 1),)
    group["primary"].call("copy_lost", None, "Input/output error")
    group.until(lambda: group.serving() is group["secondary"])
    group.until(group.protected)
    group.kill("primary")
    group["secondary"].core.marks = (Mark(MISSED, 2),)
    group["secondary"].call("copy_lost", None, "Input/output error")
    group.run(3.0)
    assert group.serving() is None and "the VM must not be booted from here" in sentence(group, "secondary")


def test_a_host_whose_disk_lost_something_before_does_not_boot_the_vm():
    group = Rig(disks=[DISK])
    node = group["primary"]
    node.tells["qemu_ready"] = None
    group.until(lambda: "StartQemu" in node.done)
    node.core.marks = (Mark(MISSED, 1),)
    node.call("copy_lost", None, "Input/output error")
    group.run(3.0)
    assert group.serving() is None and node.done.count("StartQemu") == 1
    assert "the VM must not be booted from here: disks[0] is torn: it missed a write" in sentence(group, "primary")


# --- status and ploverctl ---


def test_status_shows_what_images_are_fit_for():
    group = after_a_power_loss(secondary=Mark(MERGING, 2))
    assert group["secondary"].status()["disks"] == [
        {"path": "/images/a.img", "state": "merging", "view": 2, "torn": True, "mark": str(Mark(MERGING, 2))}
    ]
    assert "disks" not in Rig()["primary"].status()


def test_without_yes_the_price_is_told(host, capsys):
    says = Says({"price": ["THE VM IS BOOTED AFRESH.", "THE DISK IS DAMAGED."]})
    assert run_ctl(host, "cold-start", "--force", operator=says) == 1
    assert capsys.readouterr().err.splitlines() == [
        "The price of booting the VM afresh from this host's disks:",
        " - THE VM IS BOOTED AFRESH.",
        " - THE DISK IS DAMAGED.",
        "Add --yes to pay it.",
    ]
    assert ctl.main(["cold-start"]) == 1
    assert "Add --yes if no host holds its state any more" in capsys.readouterr().err


def test_with_yes_it_is_done(host, capsys):
    assert run_ctl(host, "cold-start", "--yes", operator=Says({"started": True})) == 0
    assert run_ctl(host, "cold-start", "--force", "--yes", operator=Says({"started": True})) == 0
    assert run_ctl(host, "cold-start", "--yes", operator=Says({"error": "refused: disks[0] is torn"})) == 1
    assert "ploverctl: refused: disks[0] is torn" in capsys.readouterr().err
