# SPDX-License-Identifier: GPL-3.0-or-later
"""``failover --force``: when it is refused, what it says, and what becomes of the group whoever comes back, and when."""

from __future__ import annotations

import json

import pytest
from ctl_host import Says, run_ctl
from hypothesis import given
from hypothesis import strategies as st
from plover.config.timing import Timing
from plover.consensus.consensus import Consensus
from plover.consensus.durable import Durable
from plover.consensus.effects import Persist
from plover.consensus.log import INPUT
from plover.consensus.sender import ERA
from plover.core.force import force, price, refusal
from plover.ctl import commands as ctl
from plover.errors import InvariantViolation
from settings import MEMBERS

from tests.sim.rig import protected

pytestmark = pytest.mark.usefixtures("small_pages")

REPLICAS, FAR = ("primary", "secondary"), ("secondary", "witness")  # wires
ALL = (REPLICAS, FAR, ("primary", "witness"))


@pytest.fixture
def group():
    out = protected()
    for value in range(1, 4):
        out.write(value)
    return out


def lose(group, *names, seconds=3.0):
    group.kill(*names)
    group.run(seconds)


def forced(group, name):
    """Force ``name``; it serves at once. Returns its seat."""
    seat = group[name]
    assert seat.force() is None
    group.until(lambda: seat.core.leading and seat.core.leading.serving, 1.0)
    return seat


def cut(group, *wires):
    for wire in wires:
        group.cut(*wire)


# --- the others are dead, and come back ---


def test_the_last_host_serves_alone_and_the_others_come_back(group):
    lose(group, "primary", "witness")
    assert group.serving() is None
    node = forced(group, "secondary")
    assert node.has(1, 2, 3)
    group.run(1.0)
    assert node.core.leading.speaks  # nobody can confirm it, and clients must learn where the VM is all the same
    assert group.write(50) is node
    group.run(5.0)
    said = group["secondary"].status()
    assert (said["forced"], said["service"]) == (True, "degraded") and "alone by force" in said["sentence"]
    assert node.modes()[-1] == "forced"
    assert node.views()[-1][2] == "forced"
    assert node.consensus.log.bytes == 0  # truncated without anybody's help
    group.restart("primary")
    group.until(group.protected)
    group.run(0.02)
    said = group["secondary"].status()
    assert (said["forced"], said["leader"]) == (False, "secondary") and node.modes()[-1] == "protected"
    group.restart("witness")
    group.run(0.5)
    assert group.write(51) is node
    assert group["primary"].has(50) and group["witness"].consensus.record == node.consensus.record
    group.kill("secondary")  # and all is as ever
    assert group.write(52).name == "primary" and group["primary"].has(50, 51)


def test_from_the_first_acknowledgement_on_a_quorum_is_needed_again(group):
    lose(group, "primary", "witness")
    node = forced(group, "secondary")
    group.restart("witness")
    group.run(0.5)
    assert not node.consensus.alone and group["secondary"].status()["service"] == "degraded"
    assert group["witness"].consensus.record == node.consensus.record
    assert group["witness"].consensus.view == node.consensus.view
    group.kill("witness")
    group.run(1.0)
    before = len(node.released)
    group.send(60)
    group.run(1.0)
    assert len(node.released) == before and group["secondary"].status()["service"] == "down"


def test_the_witness_returns_first_and_the_forced_host_dies(group):
    """What it acknowledged is on nobody else: the service stops, although a quorum with an old state is there."""
    group.isolate("primary")
    lose(group, "witness")
    forced(group, "secondary")
    assert group.write(50) is group["secondary"]
    group.restart("witness")
    group.run(0.5)
    group.isolate("secondary")
    group.heal("primary", "witness")  # with its old copy
    group.run(3.0)
    assert group.serving() is group["secondary"] and group["secondary"].status()["service"] == "down"
    group.heal("secondary", "witness")
    group.heal("secondary", "primary")
    group.until(group.protected)
    assert group.serving().name == "secondary" and group["primary"].has(50)


# --- the others were alive after all ---


def test_an_old_leader_that_returns_alone_is_superseded_and_refilled(group):
    cut(group, *ALL)
    group.send(70)  # taken in by the old leader, never answered
    group.run(3.0)
    old = group["primary"]
    before = len(old.released)
    node = forced(group, "secondary")
    assert group.write(50) is node
    group.heal(*REPLICAS)
    group.until(group.protected)
    assert group.serving() is node and old.status()["role"] == "secondary"
    assert len(old.released) == before and old.has(50) and not old.has(70)
    group.heal()
    group.run(0.5)
    assert group.write(51) is node


def test_a_leader_that_went_on_without_us_gives_way_too(group):
    """The price, in full: leader and witness lived, two voices were heard; the forced view wins, and there is one again."""
    cut(group, REPLICAS, FAR)
    group.run(3.0)
    assert group.write(40).name == "primary"
    text = " ".join(price(group["secondary"].core))
    assert "Split brain" in text and "Time may go back: this host was in sync when it last heard the leader, " in text
    node = group["secondary"]
    assert node.force() is None
    group.run(1.0)
    assert node.core.leading.serving and group["primary"].core.leading.serving
    group.heal()
    group.until(lambda: group.protected() and group.serving() is node)
    assert not node.has(40) and not group["primary"].has(40)
    views = {name: group[name].consensus.view for name in MEMBERS}
    assert len(set(views.values())) == 1
    assert group.write(41) is node


def test_both_replicas_forced_on_either_side_of_a_cut_are_one_again_afterwards(group):
    cut(group, *ALL)
    group.run(3.0)
    for name in ("primary", "secondary"):
        assert group[name].force() is None
    group.run(1.0)
    views = [group[name].consensus.view for name in ("primary", "secondary")]
    assert all(group[name].core.leading.serving for name in ("primary", "secondary")) and views[0] != views[1]
    group.heal()
    group.until(group.protected)
    assert group.serving().name == ("primary" if views[0] > views[1] else "secondary")


def test_a_host_that_was_dropped_is_warned_that_time_goes_back_and_wins_if_forced(group):
    """The leader went on without it and died; the witness knows, and rightly refuses to elect it."""
    cut(group, REPLICAS, FAR)
    group.run(1.0)
    assert group.write(40).name == "primary"
    group.kill("primary")
    group.heal(*FAR)
    group.run(3.0)
    assert group.serving() is None
    text = price(group["secondary"].core)[1]
    assert text.startswith("TIME MAY GO BACK: another member answers and yet does not elect this host")
    node = forced(group, "secondary")
    group.run(0.5)
    assert not node.consensus.alone and group.write(41) is node
    group.heal()
    group.restart("primary")
    group.until(group.protected)


def test_a_leader_without_quorum_may_be_forced_to_go_on(group):
    lose(group, "secondary", "witness")
    node = group["primary"]
    group.send(60)
    group.run(0.5)
    assert group["primary"].status()["service"] == "down" and 60 not in node.released
    assert "Nothing that clients were told is lost" in price(node.core)[1]
    forced(group, "primary")
    assert group.write(61) is node and node.qemu.running
    group.restart("secondary")
    group.until(group.protected)
    assert group["secondary"].has(61)


# --- restarts ---


def test_a_forced_leader_whose_daemon_restarts_needs_a_quorum_or_the_operator_again(group):
    """The word was given for one situation; it is not kept for another. The state is not lost over it."""
    lose(group, "primary", "witness")
    node = forced(group, "secondary")
    group.write(50)
    group.kill_daemon("secondary")
    group.run(3.0)
    assert group.serving() is None and not node.consensus.alone
    first = node.consensus.view
    forced(group, "secondary")
    assert node.consensus.view > first and group.write(51) is node
    group.kill_daemon("secondary")
    group.restart("witness")
    group.until(lambda: group.serving() is node)
    assert not node.consensus.alone and group.write(52) is node
    group.restart("primary")
    group.until(group.protected)
    assert group["primary"].has(50, 51, 52)


def test_a_forced_leader_whose_qemu_dies_is_booted_afresh_by_two_words(group):
    lose(group, "primary", "witness")
    node = forced(group, "secondary")
    node.qemu_dies()
    group.run(3.0)
    assert group.serving() is None and not node.consensus.alone
    assert "does not hold the VM's state" in force(node.core) and "cold-start --yes" in force(node.core)
    assert node.cold_start() is None
    assert price(node.core)[1].startswith("THE VM IS BOOTED AFRESH")
    forced(group, "secondary")
    assert group.write(9) is node and not node.has(1)


# --- refusals ---


def test_it_is_refused_while_a_leader_is_heard_and_just_after(group):
    assert refusal(group["secondary"].core) == ("primary leads and is heard; to move the VM here run 'ploverctl switchover' there")
    assert "this host leads and another member answers" in refusal(group["primary"].core)
    before = group["secondary"].state
    assert "is heard" in force(group["secondary"].core)
    group.kill("primary", "witness")
    group.run(0.6)
    assert "an ordinary failover may be under way" in force(group["secondary"].core)
    group.run(1.0)
    assert group["secondary"].state == before and refusal(group["secondary"].core) is None
    forced(group, "secondary")
    assert "leads alone already, by force" in force(group["secondary"].core)


def test_a_host_without_the_state_is_refused(group):
    lose(group, "primary", "witness", "secondary")
    group.restart("secondary")
    group.run(3.0)
    assert "does not hold the VM's state" in refusal(group["secondary"].core)


def test_a_host_out_of_the_record_is_told_that_time_goes_back(group):
    core = group["secondary"].core
    record = core.consensus.record
    core.consensus.promises.store(record._replace(version=record.version + 1, in_sync=frozenset({"primary"})))
    assert price(core)[1].startswith("TIME GOES BACK: this host is not in the recorded in-sync set (primary)")


# --- the mechanism ---


def alone(name, view):
    kinds = {m: v["kind"] for m, v in MEMBERS.items()}
    return Consensus(name, kinds, Durable(view), Timing(0.1, 0.02), 0.0)


@given(
    st.lists(st.tuples(st.sampled_from(["primary", "secondary"]), st.integers(0, 50)), min_size=1, max_size=12), st.integers(0, 10 * ERA)
)
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


def test_the_view_and_its_record_are_on_disk_before_anything_else(group):
    member = alone("primary", 7)
    member.force_lead(0.0)
    first = member.take()[0]
    assert isinstance(first, Persist)
    assert (first.state.view, first.state.voted_for, first.state.record.view, first.state.record.in_sync) == (
        member.view,
        "primary",
        member.view,
        {"primary"},
    )


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
    assert run_ctl(host, "failover", "--force", operator=Says({"price": ["Split brain: x.", "TIME GOES BACK: y."]})) == 1
    assert capsys.readouterr().err.splitlines() == [
        "The price of leading from this host:",
        " - Split brain: x.",
        " - TIME GOES BACK: y.",
        "Add --yes to pay it.",
    ]
    assert run_ctl(host, "failover", "--force", operator=Says({"error": "primary leads"})) == 1
    assert capsys.readouterr().err == "ploverctl: primary leads\n"


def test_with_yes_it_is_done(host, capsys):
    assert run_ctl(host, "failover", "--force", "--yes", operator=Says({"view": 3000000})) == 0
    assert "leads view 3000000, alone until another member acknowledges it" in capsys.readouterr().out


def test_a_witness_refuses_it(host, capsys):
    assert run_ctl(host, "failover", "--force", "--yes", in_sync=0b001) == 1
    assert "is not for a witness" in capsys.readouterr().err
    assert json.loads((host / "demo.json").read_text())["member"] == "witness"
