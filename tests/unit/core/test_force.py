# SPDX-License-Identifier: GPL-3.0-or-later
"""``failover --force``: when it is refused, what it says, and what becomes of the group whoever comes back, and when."""
from __future__ import annotations

import json

import pytest
from cluster import MEMBERS, Cluster
from ctl_host import Says, run_ctl
from hypothesis import given
from hypothesis import strategies as st
from plover.config.timing import Timing
from plover.consensus.consensus import ERA, Consensus
from plover.consensus.durable import Durable
from plover.consensus.effects import Persist
from plover.consensus.log import INPUT
from plover.core.director import Director
from plover.core.force import force, price, refusal
from plover.ctl import commands as ctl
from plover.errors import InvariantViolation
from test_core import write

ALL = [frozenset(pair) for pair in (("primary", "secondary"), ("primary", "witness"), ("secondary", "witness"))]


@pytest.fixture
def cluster():
    out = Cluster()
    out.run_until(out.protected)
    for value in range(1, 4):
        write(out, value)
    return out


def lose(cluster, *names, seconds=3.0):
    for name in names:
        cluster.kill(name)
    cluster.run(seconds)


def forced(cluster, name):
    """Force ``name``; it serves at once. Returns its node."""
    node = cluster[name]
    assert force(node.core.at(cluster.now)) is None
    node.pump()
    cluster.run_until(lambda: node.core.leading and node.core.leading.serving, 1.0)
    return node


def heal(cluster, *pairs):
    for pair in pairs or ALL:
        cluster.cut.discard(pair)
        one, other = pair
        cluster[one].consensus.connected(other)
        cluster[other].consensus.connected(one)


def status(cluster, name):
    return cluster[name].core.at(cluster.now).status()


def modes(node):
    return [h.facts["mode"] for h in node.history if h.kind == "mode"]


# --- the others are dead, and come back ---

def test_the_last_host_serves_alone_and_the_others_come_back(cluster):
    lose(cluster, "primary", "witness")
    assert cluster.leader() is None
    node = forced(cluster, "secondary")
    assert node.memory.ram[1:4] == [1, 2, 3]
    cluster.run(1.0)
    assert node.core.leading.speaks  # nobody can confirm it, and clients must learn where the VM is all the same
    assert write(cluster, 50) is node
    cluster.run(5.0)
    said = status(cluster, "secondary")
    assert (said["forced"], said["service"]) == (True, "degraded") and "alone by force" in said["sentence"]
    assert modes(node)[-1] == "forced"
    assert [h.facts["cause"] for h in node.history if h.kind == "view"][-1] == "forced"
    assert node.consensus.log.bytes == 0  # truncated without anybody's help
    cluster.restart("primary")
    cluster.run_until(cluster.protected)
    said = status(cluster, "secondary")
    assert (said["forced"], said["leader"]) == (False, "secondary") and modes(node)[-1] == "protected"
    cluster.restart("witness")
    cluster.run(0.5)
    assert write(cluster, 51) is node
    assert cluster["primary"].memory.ram[50] == 50 and cluster["witness"].consensus.record == node.consensus.record
    cluster.kill("secondary")  # and all is as ever
    assert write(cluster, 52).name == "primary" and cluster["primary"].memory.ram[50:52] == [50, 51]


def test_from_the_first_acknowledgement_on_a_quorum_is_needed_again(cluster):
    lose(cluster, "primary", "witness")
    node = forced(cluster, "secondary")
    cluster.restart("witness")
    cluster.run(0.5)
    assert not node.consensus.alone and status(cluster, "secondary")["service"] == "degraded"
    assert cluster["witness"].consensus.record == node.consensus.record
    assert cluster["witness"].consensus.view == node.consensus.view
    cluster.kill("witness")
    cluster.run(1.0)
    before = len(node.released)
    cluster.send(60)
    cluster.run(1.0)
    assert len(node.released) == before and status(cluster, "secondary")["service"] == "down"


def test_the_witness_returns_first_and_the_forced_host_dies(cluster):
    """What it acknowledged is on nobody else: the service stops, although a quorum with an old state is there."""
    lose(cluster, "primary", "witness")
    write_node = forced(cluster, "secondary")
    assert write(cluster, 50) is write_node
    cluster.restart("witness")
    cluster.run(0.5)
    cluster.kill("secondary")
    cluster.nodes["primary"].alive = True  # with its old copy
    cluster.run(3.0)
    assert cluster.leader() is None
    cluster.nodes["secondary"].alive = True  # it was only cut off
    cluster.run_until(cluster.protected)
    assert cluster.leader().name == "secondary" and cluster["primary"].memory.ram[50] == 50


# --- the others were alive after all ---

def test_an_old_leader_that_returns_alone_is_superseded_and_refilled(cluster):
    cluster.cut |= set(ALL)
    cluster.send(70)  # taken in by the old leader, never answered
    cluster.run(3.0)
    old = cluster["primary"]
    before = len(old.released)
    node = forced(cluster, "secondary")
    assert write(cluster, 50) is node
    heal(cluster, ALL[0])
    cluster.run_until(cluster.protected)
    assert cluster.leader() is node and old.core.status()["role"] == "secondary"
    assert len(old.released) == before and old.memory.ram[50] == 50 and old.memory.ram[70] == 0
    heal(cluster)
    cluster.run(0.5)
    assert write(cluster, 51) is node


def test_a_leader_that_went_on_without_us_gives_way_too(cluster):
    """The price, in full: leader and witness lived, two voices were heard; the forced view wins, and there is one again."""
    cluster.cut |= {ALL[0], ALL[2]}
    cluster.run(3.0)
    assert write(cluster, 40).name == "primary"
    text = " ".join(price(cluster["secondary"].core.at(cluster.now)))
    assert "Two voices" in text and "Time may go back: this host was in sync when it last heard the leader, " in text
    node = cluster["secondary"]
    assert force(node.core.at(cluster.now)) is None
    node.pump()
    cluster.run(1.0)
    assert node.core.leading.serving and cluster["primary"].core.leading.serving
    heal(cluster)
    cluster.run_until(lambda: cluster.protected() and cluster.leader() is node)
    assert node.memory.ram[40] == 0 == cluster["primary"].memory.ram[40]
    views = {name: cluster[name].consensus.view for name in MEMBERS}
    assert len(set(views.values())) == 1
    assert write(cluster, 41) is node


def test_both_replicas_forced_on_either_side_of_a_cut_are_one_again_afterwards(cluster):
    cluster.cut |= set(ALL)
    cluster.run(3.0)
    for name in ("primary", "secondary"):
        assert force(cluster[name].core.at(cluster.now)) is None
        cluster[name].pump()
    cluster.run(1.0)
    views = [cluster[name].consensus.view for name in ("primary", "secondary")]
    assert all(cluster[name].core.leading.serving for name in ("primary", "secondary")) and views[0] != views[1]
    heal(cluster)
    cluster.run_until(cluster.protected)
    assert cluster.leader().name == ("primary" if views[0] > views[1] else "secondary")


def test_a_host_that_was_dropped_is_warned_that_time_goes_back_and_wins_if_forced(cluster):
    """The leader went on without it and died; the witness knows, and rightly refuses to elect it."""
    cluster.cut |= {ALL[0], ALL[2]}
    cluster.run(1.0)
    assert write(cluster, 40).name == "primary"
    cluster.kill("primary")
    heal(cluster, ALL[2])
    cluster.run(3.0)
    assert cluster.leader() is None
    text = price(cluster["secondary"].core.at(cluster.now))[1]
    assert text.startswith("TIME MAY GO BACK: another member answers and yet does not elect this host")
    node = forced(cluster, "secondary")
    cluster.run(0.5)
    assert not node.consensus.alone and write(cluster, 41) is node
    heal(cluster)
    cluster.restart("primary")
    cluster.run_until(cluster.protected)


def test_a_leader_without_quorum_may_be_forced_to_go_on(cluster):
    lose(cluster, "secondary", "witness")
    node = cluster["primary"]
    frame = cluster.send(60)
    cluster.run(0.5)
    assert status(cluster, "primary")["service"] == "down" and frame not in node.released
    assert "Nothing that clients were told is lost" in price(node.core.at(cluster.now))[1]
    forced(cluster, "primary")
    assert write(cluster, 61) is node and node.running
    cluster.restart("secondary")
    cluster.run_until(cluster.protected)
    assert cluster["secondary"].memory.ram[61] == 61


# --- restarts ---

def restart_daemon(cluster, name):
    """The daemon begins anew; its QEMU ran on and is taken up again."""
    node = cluster[name]
    node.answers.clear()
    node.core = Director(node.config, node.state, node.memory, cluster.now, adopted=True)
    node.consensus = node.core.consensus
    for other in cluster.nodes.values():
        if other is not node:
            other.consensus.connected(name)


def test_a_forced_leader_whose_daemon_restarts_needs_a_quorum_or_the_operator_again(cluster):
    """The word was given for one situation; it is not kept for another. The state is not lost over it."""
    lose(cluster, "primary", "witness")
    node = forced(cluster, "secondary")
    write(cluster, 50)
    restart_daemon(cluster, "secondary")
    cluster.run(3.0)
    assert cluster.leader() is None and not node.consensus.alone
    first = node.consensus.view
    forced(cluster, "secondary")
    assert node.consensus.view > first and write(cluster, 51) is node
    restart_daemon(cluster, "secondary")
    cluster.restart("witness")
    cluster.run_until(lambda: cluster.leader() is node)
    assert not node.consensus.alone and write(cluster, 52) is node
    cluster.restart("primary")
    cluster.run_until(cluster.protected)
    assert cluster["primary"].memory.ram[50:53] == [50, 51, 52]


def test_a_forced_leader_whose_qemu_dies_is_booted_afresh_by_two_words(cluster):
    lose(cluster, "primary", "witness")
    node = forced(cluster, "secondary")
    node.qemu = False
    node.answers.clear()
    node.core.at(cluster.now).qemu_exited("killed")
    node.pump()
    cluster.run(3.0)
    assert cluster.leader() is None and not node.consensus.alone
    assert "does not hold the VM's state" in force(node.core.at(cluster.now)) and "cold-start --yes" in force(node.core)
    assert node.core.cold_start() is None
    assert price(node.core)[1].startswith("THE VM IS BOOTED AFRESH")
    forced(cluster, "secondary")
    assert write(cluster, 9) is node and node.memory.ram[1] == 0


# --- refusals ---

def test_it_is_refused_while_a_leader_is_heard_and_just_after(cluster):
    assert refusal(cluster["secondary"].core.at(cluster.now)) == (
        "primary leads and is heard; to move the VM here run 'ploverctl switchover' there")
    assert "this host leads and another member answers" in refusal(cluster["primary"].core.at(cluster.now))
    before = cluster["secondary"].state
    assert "is heard" in force(cluster["secondary"].core.at(cluster.now))
    cluster.kill("primary")
    cluster.kill("witness")
    cluster.run(0.6)
    assert "an ordinary failover may be under way" in force(cluster["secondary"].core.at(cluster.now))
    cluster.run(1.0)
    assert cluster["secondary"].state == before and refusal(cluster["secondary"].core.at(cluster.now)) is None
    forced(cluster, "secondary")
    assert "leads alone already, by force" in force(cluster["secondary"].core.at(cluster.now))


def test_a_host_without_the_state_is_refused(cluster):
    lose(cluster, "primary", "witness", "secondary")
    cluster.restart("secondary")
    cluster.run(3.0)
    assert "does not hold the VM's state" in refusal(cluster["secondary"].core.at(cluster.now))


def test_a_host_out_of_the_record_is_told_that_time_goes_back(cluster):
    core = cluster["secondary"].core
    record = core.consensus.record
    core.consensus.promises.store(record._replace(version=record.version + 1, in_sync=frozenset({"primary"})))
    assert price(core)[1].startswith("TIME GOES BACK: this host is not in the recorded in-sync set (primary)")


# --- the mechanism ---

def alone(name, view):
    kinds = {m: v["kind"] for m, v in MEMBERS.items()}
    return Consensus(name, kinds, Durable(view), Timing(0.1, 0.02), 0.0)


@given(st.lists(st.tuples(st.sampled_from(["primary", "secondary"]), st.integers(0, 50)), min_size=1, max_size=12),
       st.integers(0, 10 * ERA))
def test_no_view_is_ever_forced_by_two_members(history, view):
    """Whoever forces when, from whatever view an era's elections led to: views grow, and no two members force the same."""
    at, taken = {"primary": view, "secondary": view}, {}
    for name, elections in history:
        member = alone(name, at[name] + elections)
        member.force_lead(0.0)
        assert member.view > at[name] + elections and member.view % ERA == 0
        assert taken.setdefault(member.view, name) == name
        at[name] = member.view
        if elections % 3 == 0:  # the other heard of it
            at = dict.fromkeys(at, max(at.values()))


def test_the_view_and_its_record_are_on_disk_before_anything_else(cluster):
    member = alone("primary", 7)
    member.force_lead(0.0)
    first = member.take()[0]
    assert isinstance(first, Persist)
    assert (first.state.view, first.state.voted_for, first.state.record.view, first.state.record.in_sync) == (
        member.view, "primary", member.view, {"primary"})


def test_a_fork_that_force_ended_truncates_nothing_of_what_comes_after_it():
    """Found by the simulator: a member of the longer, overruled log led next, and cut its new entries off unapplied."""
    member = alone("primary", 7)
    member.truncate_index = 168  # what the overruled leader had covered by syncvms
    member.force_lead(0.0)
    index = member.propose(INPUT, b"frame")
    member.truncate_to(index - 1)
    assert member.log[index].payload == b"frame" and member.truncate_index < index


def test_the_witness_is_never_forced():
    with pytest.raises(InvariantViolation, match="witness never leads"):
        alone("witness", 7).force_lead(0.0)


# --- ploverctl ---

def test_without_force_it_is_explained_and_nothing_is_asked(host, capsys):
    assert ctl.main(["failover"]) == 1 and ctl.main(["failover", "--yes"]) == 1
    assert capsys.readouterr().err.count("'ploverctl failover --force' says what it would cost") == 2


def test_without_yes_the_price_is_told(host, capsys):
    assert run_ctl(host, "failover", "--force", operator=Says({"price": ["Two voices: x.", "TIME GOES BACK: y."]})) == 1
    assert capsys.readouterr().err.splitlines() == ["The price of leading from this host:", " - Two voices: x.",
                                                    " - TIME GOES BACK: y.", "Add --yes to pay it."]
    assert run_ctl(host, "failover", "--force", operator=Says({"error": "primary leads"})) == 1
    assert capsys.readouterr().err == "ploverctl: primary leads\n"


def test_with_yes_it_is_done(host, capsys):
    assert run_ctl(host, "failover", "--force", "--yes", operator=Says({"view": 3000000})) == 0
    assert "leads view 3000000, alone until another member acknowledges it" in capsys.readouterr().out


def test_a_witness_refuses_it(host, capsys):
    assert run_ctl(host, "failover", "--force", "--yes", in_sync=0b001) == 1
    assert "is not for a witness" in capsys.readouterr().err
    assert json.loads((host / "demo.json").read_text())["member"] == "witness"
