# SPDX-License-Identifier: GPL-3.0-or-later
"""A cold start with disks: never from a torn image or an older one, unless the operator was told the price and pays it."""
from __future__ import annotations

import pytest
from cluster import Cluster
from ctl_host import Says, run_ctl
from plover.consensus.durable import Durable
from plover.consensus.effects import Elected
from plover.core.cold_start import price
from plover.core.director import Director
from plover.core.disk_marks import INCOMPLETE, LIVE, MERGING, MISSED, UNREADABLE, WHOLE, Mark
from plover.core.force import force
from plover.core.force import price as price_of_force
from plover.ctl import commands as ctl
from plover.errors import InvariantViolation
from plover.ports import effects as act
from test_core import write

DISK = {"path": "/images/a.img"}
TORN = (MERGING, INCOMPLETE, MISSED, UNREADABLE)


def after_a_power_loss(knows: bool = True, **marks: Mark) -> Cluster:
    """The secondary led last, alone in sync; then both replicas were off, and came back. ``knows``: the primary was told."""
    cluster = Cluster(disks=[DISK])
    cluster.run_until(cluster.protected)
    cluster.kill("primary")
    assert write(cluster, 7) is cluster["secondary"]
    if knows:
        cluster.restart("primary")
        cluster.run_until(lambda: cluster["primary"].consensus.record.in_sync == {"secondary"})
    cluster.kill("secondary")
    for name in ("primary", "secondary"):
        cluster.restart(name)
        cluster[name].core.marks = (marks.get(name, Mark()),)
    cluster.run(1.0)
    assert cluster.leader() is None
    return cluster


def sentence(cluster: Cluster, name: str) -> str:
    return cluster[name].core.at(cluster.now).status()["sentence"]


@pytest.mark.parametrize("state", TORN)
def test_a_torn_image_is_not_booted(state):
    cluster = after_a_power_loss(primary=Mark(WHOLE, 1), secondary=Mark(state, 2))
    why = cluster["secondary"].core.at(cluster.now).cold_start()
    assert why.startswith(f"refused: disks[0] is {Mark(state, 2)}. Boot the VM on primary, unless its status says ")
    assert "the VM must not be booted from here: disks[0] is" in sentence(cluster, "secondary")
    cluster.run(2.0)
    assert cluster.leader() is None and "StartQemu" not in cluster["secondary"].done


@pytest.mark.parametrize("mark", [Mark(), Mark(LIVE, 2), Mark(WHOLE, 2)])
def test_a_whole_image_is_booted_where_the_last_state_was(mark):
    cluster = after_a_power_loss(primary=Mark(WHOLE, 1), secondary=mark)
    assert "run this there. If that host is gone for good, or its disk is torn" in cluster["primary"].core.cold_start()
    assert "'ploverctl cold-start --yes' boots the VM afresh" in sentence(cluster, "secondary")
    assert cluster["secondary"].core.cold_start() is None
    cluster.run_until(cluster.protected)
    assert cluster.leader() is cluster["secondary"]


def test_the_older_whole_disk_is_booted_by_two_words_and_the_torn_one_is_overwritten():
    cluster = after_a_power_loss(primary=Mark(WHOLE, 1), secondary=Mark(MERGING, 2))
    core = cluster["primary"].core.at(cluster.now)
    told = price(core)
    assert [text.split(":")[0] for text in told] == [
        "THE VM IS BOOTED AFRESH from this host's disks",
        "disks[0] here is whole as of view 1, as the leader of that view left it. A higher view in the other replica's "
        "status means a newer disk.", "TIME GOES BACK"]
    assert core.cold_start(forced=True) is None
    cluster.run(1.0)
    assert cluster.leader() is None  # a quorum does not elect it
    assert "TIME GOES BACK" in price_of_force(core)[1]
    assert force(core.at(cluster.now)) is None
    cluster["primary"].pump()
    cluster.run_until(cluster.protected)
    assert cluster.leader() is cluster["primary"] and "FeedStream" in cluster["secondary"].done


def test_a_torn_disk_is_booted_by_force_where_it_is_the_only_one():
    cluster = after_a_power_loss(secondary=Mark(INCOMPLETE, 2))
    core = cluster["secondary"].core.at(cluster.now)
    assert price(core)[1].startswith("THE DISK IS DAMAGED, unless you have restored it since: disks[0] is incomplete: ")
    assert core.cold_start(forced=True) is None
    cluster.run_until(lambda: cluster.leader() is cluster["secondary"])
    assert any("by force: THE VM IS BOOTED AFRESH" in text for text in cluster["secondary"].reports)


def test_a_host_that_does_not_know_that_it_is_older_is_not_elected_and_says_so():
    cluster = after_a_power_loss(knows=False, primary=Mark(WHOLE, 1), secondary=Mark(MERGING, 2))
    assert cluster["primary"].core.at(cluster.now).cold_start() is None
    cluster.run(1.0)
    assert cluster.leader() is None
    assert "asked to boot the VM afresh, and not elected yet" in sentence(cluster, "primary")
    assert "TIME MAY GO BACK" in " ".join(price_of_force(cluster["primary"].core))


def test_a_leader_that_lost_the_vm_is_none_to_wait_for():
    """Found by the simulator: its disk is torn, so it refuses; the other replica still believed that it led, and refused."""
    cluster = Cluster(disks=[DISK])
    cluster.run_until(cluster.protected)
    primary, secondary = cluster["primary"], cluster["secondary"]
    secondary.core.at(cluster.now).qemu_exited("killed")
    primary.core.at(cluster.now).qemu_exited("killed")
    secondary.core.marks = (Mark(WHOLE, 1),)
    for node in (primary, secondary):
        node.answers.clear()
        node.qemu = False
        node.pump()
    cluster.run(0.05)
    assert secondary.core.at(cluster.now).cold_start() == "refused: a leader or a copy of the VM's state exists"
    cluster.run(1.0)
    assert cluster.leader() is None and secondary.consensus.leader == "primary"
    assert secondary.core.at(cluster.now).cold_start() is None
    cluster.run_until(cluster.protected)
    assert cluster.leader() is secondary


@pytest.mark.parametrize("state", TORN)
def test_a_new_group_does_not_boot_a_torn_image(state):
    """Its state folders are lost, and the image still knows."""
    cluster = Cluster(disks=[DISK])
    cluster["primary"].core.marks = (Mark(state, 5),)
    cluster.run(3.0)
    assert cluster.leader() is None
    assert "the VM must not be booted from here" in sentence(cluster, "primary")
    assert cluster["primary"].core.cold_start(forced=True) is None
    cluster.run_until(cluster.protected)


def test_who_is_elected_all_the_same_does_not_boot_it():
    cluster = Cluster(disks=[DISK])
    node = cluster["primary"]
    core = Director(node.config, Durable(), node.memory, 0.0, False, (Mark(MERGING, 5),))
    core.consensus._out.append(Elected(1))
    with pytest.raises(InvariantViolation, match="nobody asked for a cold start. disks.0. is torn"):
        core.take()


def test_it_is_refused_while_somebody_holds_the_state():
    cluster = Cluster(disks=[DISK])
    cluster.run_until(cluster.protected)
    for name in ("primary", "secondary"):
        assert cluster[name].core.cold_start(forced=True) == "refused: a leader or a copy of the VM's state exists"


# --- fills ---

def test_an_image_that_missed_a_write_is_never_a_source():
    cluster = Cluster(disks=[DISK])
    cluster.run_until(cluster.protected)
    cluster.kill("secondary")
    cluster.run(2.0)
    leader = cluster["primary"].core
    leader.marks = (Mark(MISSED, 1),)
    cluster.restart("secondary")
    cluster["primary"].done.clear()
    cluster.run(3.0)
    assert "CopyDisks" not in cluster["primary"].done and write(cluster, 5) is cluster["primary"]
    reason = leader.at(cluster.now).status()["reason"]
    assert reason.startswith("secondary cannot join: disks[0] is torn: it missed a write in view 1")
    assert "Such a disk is never copied" in sentence(cluster, "secondary")
    leader.marks = (Mark(LIVE, 1),)
    cluster.run_until(cluster.protected)


def test_a_secondary_whose_disk_loses_the_copy_starts_over_less_and_less_often():
    cluster = Cluster(disks=[DISK])
    node, pauses = cluster["secondary"], []
    for _ in range(4):
        cluster.run_until(cluster.protected, 30.0)
        node.done.clear()
        node.core.at(cluster.now).answer("copy_lost", None, "Input/output error")
        node.pump()
        cluster.run(0.1)
        assert "this host's disks lost what was copied to them" in cluster["primary"].core.status()["sentence"]
        assert not node.core.holds_state
        since = cluster.now
        cluster.run_until(lambda: "StartQemu" in node.done, 30.0)
        pauses.append(round(cluster.now - since))
    assert pauses == [2, 4, 8, 16]


def test_a_leader_whose_disk_loses_writes_gives_its_vm_up():
    """Found by the simulator: elected while its copy was synced, it went on with blocks that nobody had written."""
    cluster = Cluster(disks=[DISK])
    cluster.run_until(cluster.protected)
    cluster["primary"].core.at(cluster.now).answer("copy_lost", None, "Input/output error")
    cluster["primary"].core.marks = (Mark(MISSED, 1),)
    cluster["primary"].pump()
    cluster.run_until(lambda: cluster.leader() is cluster["secondary"])
    cluster.run_until(cluster.protected)
    cluster.kill("primary")
    cluster["secondary"].core.at(cluster.now).answer("copy_lost", None, "Input/output error")
    cluster["secondary"].core.marks = (Mark(MISSED, 2),)
    cluster["secondary"].pump()
    cluster.run(3.0)
    assert cluster.leader() is None and "the VM must not be booted from here" in sentence(cluster, "secondary")


def test_a_host_whose_disk_lost_something_before_does_not_boot_the_vm():
    cluster = Cluster(disks=[DISK])
    node = cluster["primary"]

    def do(action, good=node.do):
        good(action)
        if isinstance(action, act.StartQemu):
            node.core.marks = (Mark(MISSED, 1),)
            node.answers.clear()
            node.answers.append(("copy_lost", None, "Input/output error"))
    node.do = do
    cluster.run(3.0)
    assert cluster.leader() is None and node.done.count("StartQemu") == 1
    assert "the VM must not be booted from here: disks[0] is torn: it missed a write" in sentence(cluster, "primary")


# --- status and ploverctl ---

def test_status_shows_what_images_are_fit_for():
    cluster = after_a_power_loss(secondary=Mark(MERGING, 2))
    assert cluster["secondary"].core.at(cluster.now).status()["disks"] == [
        {"path": "/images/a.img", "state": "merging", "view": 2, "torn": True, "mark": str(Mark(MERGING, 2))}]
    assert "disks" not in Cluster()["primary"].core.status()


def test_without_yes_the_price_is_told(host, capsys):
    says = Says({"price": ["THE VM IS BOOTED AFRESH.", "THE DISK IS DAMAGED."]})
    assert run_ctl(host, "cold-start", "--force", operator=says) == 1
    assert capsys.readouterr().err.splitlines() == [
        "The price of booting the VM afresh from this host's disks:",
        " - THE VM IS BOOTED AFRESH.", " - THE DISK IS DAMAGED.", "Add --yes to pay it."]
    assert ctl.main(["cold-start"]) == 1
    assert "Add --yes if no host holds its state any more" in capsys.readouterr().err


def test_with_yes_it_is_done(host, capsys):
    assert run_ctl(host, "cold-start", "--yes", operator=Says({"started": True})) == 0
    assert run_ctl(host, "cold-start", "--force", "--yes", operator=Says({"started": True})) == 0
    assert run_ctl(host, "cold-start", "--yes", operator=Says({"error": "refused: disks[0] is torn"})) == 1
    assert "ploverctl: refused: disks[0] is torn" in capsys.readouterr().err
