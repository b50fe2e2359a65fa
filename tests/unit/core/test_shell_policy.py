# SPDX-License-Identifier: GPL-3.0-or-later
"""What a shell decides beside the core: the rules that the daemon and the simulator share (core/shell_policy.py)."""

from __future__ import annotations

import ast
from types import SimpleNamespace

import pytest
from plover.config.settings import Config
from plover.consensus.durable import Durable
from plover.consensus.effects import LEADER
from plover.core import shell_policy as policy
from plover.core.director import Director
from plover.core.leader import BOOTING
from plover.core.reprotection import FILLING, IN_SYNC
from plover.core.shell_policy import Announce, Operations
from plover.errors import LostWritesError, QemuError
from plover.ports import effects
from plover.protocol import wire

from lab.paths import ROOT

ADDRESSES = {"primary": "127.0.0.1", "secondary": "127.0.0.2", "witness": "127.0.0.3"}
CONFIG = Config(
    {
        "name": "demo",
        "cluster_id": "6f9619ff-8b86-4d01-b42d-00cf4fc964ff",
        "member": "primary",
        "members": {n: {"address": a, "kind": "witness" if n == "witness" else "replica"} for n, a in ADDRESSES.items()},
        "preferred_leader": "primary",
        "guest_kernel": "/k",
        "guest_mac": "52:54:00:70:6c:01",
    }
)
KILL, STOP, START, CONT = effects.KillQemu("why"), effects.StopVm("tag"), effects.StartQemu(False), effects.ContVm()


def follower() -> Director:
    return Director(CONFIG, Durable(), SimpleNamespace(pages=1), 0.0)


def leader(**facts: object) -> Director:
    """With its VM, in the middle of things: ``facts`` are of its Leader."""
    core = Director(CONFIG, Durable(), SimpleNamespace(pages=1), 0.0, adopted=True)
    core.consensus.role = LEADER
    core.role.active = True
    for name, fact in facts.items():
        setattr(core.role, name, fact)
    return core


def fresh(core: Director, is_fresh: bool = True) -> Director:
    """A quorum has answered, or not."""
    core.consensus.fresh = lambda now: is_fresh
    core.consensus.deaf = lambda now: not is_fresh
    core.consensus.record_committed = is_fresh
    return core


# ---- the VM's network ----------------------------------------------------------------------------------------
def test_the_tap_is_read_only_where_frames_can_go_somewhere():
    assert not policy.reads_tap(follower())
    assert not policy.reads_tap(leader())  # its TAP is not up
    assert policy.reads_tap(fresh(leader(tap_up=True)))
    assert not policy.reads_tap(fresh(leader(tap_up=True, vm=BOOTING)))


def test_an_old_leader_reads_on_once_it_knows_its_successor():
    core = follower()
    core.late.begin(5.0)
    assert not policy.reads_tap(core)  # frames wait in the TAP
    core.consensus.leader = "secondary"
    assert policy.reads_tap(core)
    core.late.cancel()
    assert not policy.reads_tap(core)


@pytest.mark.parametrize(
    "output, syncvm, state, watched",
    [(b"frame", None, IN_SYNC, True), (b"", None, IN_SYNC, False), (b"frame", object(), IN_SYNC, False), (b"frame", None, FILLING, False)],
)
def test_idleness_is_watched_while_output_waits_for_a_syncvm(output, syncvm, state, watched):
    core = leader(syncvm=syncvm)
    core.role.reprotection.state = state
    if output:
        core.role.guard.hold(len(output).to_bytes(4, "big") + output, 0.0)
    assert policy.watches_idle(core) is watched and not policy.watches_idle(follower())


def test_a_frame_that_took_too_long_does_not_leave():
    assert policy.in_time(1.0, 1.0) and not policy.in_time(1.001, 1.0)


def test_only_a_leader_announces_and_only_when_a_quorum_has_answered():
    assert policy.announces(follower()) is Announce.NEVER
    assert policy.announces(leader()) is Announce.NEVER  # no TAP to speak by
    assert policy.announces(fresh(leader(tap_up=True), False)) is Announce.LATER
    assert policy.announces(fresh(leader(tap_early=True), False)) is Announce.LATER
    assert policy.announces(fresh(leader(tap_early=True))) is Announce.NOW
    hands_over = fresh(leader(tap_early=True))
    hands_over.role.switchover.begin(1.0)
    assert policy.announces(hands_over) is Announce.LATER


def test_announcements_come_in_order_the_first_at_once():
    assert policy.ANNOUNCE_AT_S[0] == 0.0 and list(policy.ANNOUNCE_AT_S) == sorted(policy.ANNOUNCE_AT_S)


@pytest.mark.parametrize(
    "tap_up, error, queued, again",
    [(True, "failed", False, True), (False, "failed", False, False), (True, "", False, False), (True, "failed", True, False)],
)
def test_the_taps_script_is_run_again_while_we_lead_and_nothing_else_is_to_be_done(tap_up, error, queued, again):
    assert policy.retries_tap(leader(tap_up=tap_up), error, queued) is again
    assert not policy.retries_tap(follower(), "failed", False)


# ---- one QEMU ------------------------------------------------------------------------------------------------
def test_only_a_leaders_running_vm_is_noted_for_the_next_daemon():
    assert policy.notes_holder(leader()) and not policy.notes_holder(leader(vm=BOOTING)) and not policy.notes_holder(follower())


def test_a_failure_is_told_only_of_a_qemu_that_is_still_ours():
    assert policy.failure(STOP, QemuError("no"), True) == ("failed", "tag", "no")
    assert policy.failure(STOP, QemuError("no"), False) is None
    assert policy.failure(CONT, OSError(5, "EIO"), True)[:2] == ("failed", None)
    assert policy.failure(STOP, LostWritesError("lost"), True).event == "copy_lost"
    assert policy.failure(START, QemuError("ended"), False) == ("failed", None, "ended")


def begun(operations: Operations) -> list:
    """All there is to do, one after the other."""
    out = []
    while (todo := operations.begin()) is not None:
        out.append(todo)
        operations.ended()
    return out


def test_operations_run_one_at_a_time_in_order():
    operations = Operations()
    operations.ask("one", STOP)
    operations.ask("one", CONT)
    assert operations.begin() == ("one", STOP) and operations.begin() is None and len(operations) == 1
    operations.ended()
    assert operations.begin() == ("one", CONT)


def test_without_a_qemu_only_a_start_is_left_to_do():
    operations = Operations()
    for action in (CONT, START, STOP):
        operations.ask(None, action)
    assert begun(operations) == [(None, START)]


def test_a_kill_takes_along_what_was_wanted_of_its_qemu():
    operations = Operations()
    operations.ask("one", STOP)
    operations.begin()
    operations.ask("one", CONT)
    assert operations.kill("one", KILL)  # the stop is cancelled
    operations.ended()
    assert begun(operations) == [("one", KILL)] and operations.unreaped == {"one"}
    operations.reaped("one")
    assert operations.unreaped == set()


def test_a_kill_takes_along_a_start_but_not_the_end_of_the_qemu_before():
    operations = Operations()
    operations.kill("one", KILL)
    operations.ask(None, START)
    again = effects.KillQemu("again")
    assert not operations.kill(None, again)
    assert begun(operations) == [("one", KILL)]


def test_a_kill_that_runs_is_never_cancelled():
    operations = Operations()
    operations.kill("one", KILL)
    operations.begin()
    assert not operations.kill("two", KILL) and operations.running is KILL
    operations.ended()
    assert begun(operations) == [("two", KILL)] and operations.unreaped == {"one", "two"}


def test_what_was_wanted_of_a_qemu_that_ended_is_void_but_not_a_start():
    operations = Operations()
    for vm, action in (("one", STOP), ("two", CONT), ("one", START)):
        operations.ask(vm, action)
    operations.exited("one")
    assert begun(operations) == [("two", CONT), ("one", START)]


# ---- the watchdog --------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "core, unreaped, rests",
    [(follower(), False, True), (follower(), True, False), (leader(), False, False), (leader(active=False), True, False)],
)
def test_the_watchdog_rests_when_no_qemu_is_left_that_could_have_spoken(core, unreaped, rests):
    assert policy.disarms_watchdog(core, unreaped) is rests


@pytest.mark.parametrize("vm, unreaped, armed", [(None, False, False), ("one", False, True), (None, True, True)])
def test_a_daemon_that_leaves_a_qemu_behind_leaves_the_watchdog_armed(vm, unreaped, armed):
    assert policy.leaves_watchdog_armed(vm, unreaped) is armed


# ---- the witness ---------------------------------------------------------------------------------------------
def test_a_witness_hears_of_consensus_only():
    beat, leave = wire.HeartbeatAck(1, 1, 1, 1, 1), wire.Leave(1)
    assert policy.witness_hears(wire.CONTROL, beat)
    assert not policy.witness_hears(wire.DATA, beat) and not policy.witness_hears(wire.CONTROL, leave)


# ---- both shells ask here --------------------------------------------------------------------------------------
RULES = {
    name
    for name, rule in vars(policy).items()
    if getattr(rule, "__module__", "") == policy.__name__ and callable(rule) and name not in ("Announce", "Failure")
}
NOT_SIMULATED = {"retries_tap", "leaves_watchdog_armed"}  # no script fails there, and a daemon only dies


def asked_in(*folders: str) -> set[str]:
    nodes = [
        node
        for folder in folders
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    ]
    return {
        node.attr for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "policy"
    }


def test_each_rule_is_the_daemons_and_the_simulators():
    runtime = "plugins/module_utils/plover"
    assert RULES - asked_in(f"{runtime}/replica", f"{runtime}/witness", f"{runtime}/dataplane") == set()
    assert RULES - asked_in("tests/sim") == NOT_SIMULATED
