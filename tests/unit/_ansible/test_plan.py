# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules would do: every case of a member and a wish, and what is refused."""

from __future__ import annotations

import json

import pytest
from ansible_collections.plover.vmft.plugins.module_utils._ansible import plan
from ansible_collections.plover.vmft.plugins.module_utils._ansible.client import Refusal

UNIT, GUEST = "plover-replica@demo.service", "plover-qemu@demo.service"
ALL = ["primary", "secondary", "witness"]


def status(role="secondary", service="protected", leader="primary", in_sync=("primary", "secondary"), linked=None):
    return {
        "service": service,
        "role": role,
        "leader": leader,
        "in_sync": list(in_sync),
        "sentence": "so it is",
        "linked": [m for m in ALL if m != "secondary"] if linked is None else linked,
    }


def here(**more):
    """The secondary's host, whose replica follows."""
    return {
        "name": "demo",
        "member": "secondary",
        "kind": "replica",
        "unit": UNIT,
        "guest": GUEST,
        "other": "primary",
        "replicas": ["primary", "secondary"],
        "others": ["primary", "witness"],
        "preferred": "primary",
        "paths": ["/etc/plover/demo.json"],
        "active": True,
        "running": True,
        "enabled": True,
        "guest_active": True,
        "status": status(),
        "error": "",
        "pending": [],
        "together": [key for key in more.get("pending", ()) if key in plan.TOGETHER],
        **more,
    }


def witness(**more):
    return here(
        member="witness",
        kind="witness",
        unit="plover-witness@demo.service",
        guest="",
        guest_active=False,
        others=["primary", "secondary"],
        **{"status": status("witness"), **more},
    )


def want(state, **more):
    return {"state": state, "switchover": False, "force": False, "wait": False, "to": "", **more}


def does(steps):
    json.dumps(steps)  # they go to the control machine and back
    return [step["says"] if "says" in step else f"wait for {plan.what(step)}" for step in steps]


OFF = {"active": False, "running": False, "enabled": False, "guest_active": False, "status": None, "error": "not running"}
THERE = "protected or degraded with primary as leader"
LEADS = {"status": status("leader", leader="secondary")}


@pytest.mark.parametrize(
    ("at", "wish", "steps"),
    [
        (here(), want("started"), []),
        (here(), want("started", wait=True), ["wait for protected"]),
        (here(**OFF), want("started"), [f"enabled {UNIT}", f"started {UNIT}"]),
        (here(), want("stopped"), [f"stopped {UNIT}", f"ended {GUEST}"]),
        (here(**OFF), want("stopped"), []),
        (here(**{**OFF, "guest_active": True}), want("stopped"), [f"ended {GUEST}"]),
        (here(), want("absent"), [f"stopped {UNIT}", f"disabled {UNIT}", f"ended {GUEST}", "removed /etc/plover/demo.json"]),
        (here(**OFF, paths=[]), want("absent"), []),
        (here(), want("restarted"), [f"restarted {UNIT}", "wait for protected"]),
        (here(**OFF), want("restarted"), [f"enabled {UNIT}", f"started {UNIT}"]),
        (
            here(**LEADS),
            want("restarted", switchover=True),
            ["let primary take over", "wait for protected with primary as leader", f"restarted {UNIT}", "wait for protected"],
        ),
        (
            here(**LEADS),
            want("stopped", switchover=True),
            ["let primary take over", f"wait for {THERE}", f"stopped {UNIT}", f"ended {GUEST}"],
        ),
        (here(**LEADS), want("restarted", force=True), [f"restarted {UNIT}", "wait for protected"]),
        (here(status=None, running=False), want("restarted"), [f"restarted {UNIT}"]),
        (here(status=status("idle", "degraded", in_sync=["primary"])), want("restarted"), [f"restarted {UNIT}"]),
        (here(pending=["failover_budget_ms"]), want("restarted"), [f"restarted {UNIT}", "wait for protected"]),
        (here(pending=["guest_memory_mib"]), want("restarted", force=True), [f"restarted {UNIT}", "wait for protected"]),
        (witness(), want("restarted"), ["restarted plover-witness@demo.service", "wait for protected"]),
        (
            witness(),
            want("absent"),
            ["stopped plover-witness@demo.service", "disabled plover-witness@demo.service", "removed /etc/plover/demo.json"],
        ),
    ],
)
def test_steps_of_a_member(at, wish, steps):
    assert does(plan.of_member(at, wish)) == steps


@pytest.mark.parametrize("state", ["restarted", "stopped", "absent"])
@pytest.mark.parametrize(
    ("at", "wish", "says"),
    [
        (here(**LEADS), {}, "which leads: its clients would wait for a failover. Give switchover: true"),
        (
            here(status=status("leader", "degraded", "secondary", ["secondary"])),
            {"switchover": True},
            "while the VM is degraded (so it is): primary could not take over. Wait until it is protected, or give force: true",
        ),
        (here(status=status("candidate", "down", None)), {}, "while the VM is down"),
        (here(status=status(linked=["primary"])), {}, "while witness does not answer: too few would be left for a quorum"),
        (here(status=None, error="timed out"), {}, "does not say what it holds (timed out); see 'journalctl -u plover-replica"),
        (witness(status=status("witness", "degraded")), {}, "the replicas need its vote"),
    ],
)
def test_what_would_harm_the_vm_is_refused_until_it_is_forced(at, wish, says, state):
    with pytest.raises(Refusal) as error:
        plan.of_member(at, want(state, **wish))
    assert says in str(error.value)
    assert does(plan.of_member(at, want(state, force=True)))


NAMED = {"guest_machine": "pc-i440fx-7.2"}


@pytest.mark.parametrize(
    ("settings", "versions", "shared"),
    [
        (NAMED, {"machine": "pc-i440fx-7.2"}, []),
        (NAMED, {"machine": "pc-i440fx-8.2"}, ["guest_machine"]),
        (NAMED, {"machine": ""}, ["guest_machine"]),  # no QEMU yet
        (NAMED, {}, []),  # a witness
        ({"guest_machine": "pc"}, {"machine": "pc-i440fx-7.2"}, ["guest_machine"]),
        ({"guest_machine": "pc"}, {}, ["guest_machine"]),
        (NAMED, None, ["guest_machine"]),
        (None, None, ["guest_machine"]),
    ],
)
def test_the_name_of_the_machine_that_the_vm_has_is_no_change(settings, versions, shared):
    seen = None if versions is None else {"versions": versions}
    assert plan.together(["failover_budget_ms", "guest_machine"], settings, seen) == shared
    assert plan.together(["guest_machine", "guest_memory_mib"], settings, seen) == [*shared, "guest_memory_mib"]


@pytest.mark.parametrize("key", ["guest_memory_mib", "port"])
def test_a_member_is_not_restarted_alone_with_what_all_must_share(key):
    with pytest.raises(Refusal, match=f"the new {key} must come into force on all members at once"):
        plan.of_member(here(pending=[key, "failover_budget_ms"]), want("restarted"))


@pytest.mark.parametrize(
    ("at", "wish", "steps"),
    [
        (here(), want("protected", wait=True), ["wait for protected"]),
        (here(**OFF), want("serving", wait=True), [f"enabled {UNIT}", f"started {UNIT}", "wait for protected or degraded"]),
        (here(**LEADS), want("unprotected"), [f"stopped {UNIT}", f"disabled {UNIT}", f"ended {GUEST}"]),
        (here(**OFF), want("unprotected"), []),
        (witness(), want("unprotected"), ["stopped plover-witness@demo.service", "disabled plover-witness@demo.service"]),
    ],
)
def test_steps_of_a_vm(at, wish, steps):
    assert does(plan.of_vm(at, wish)) == steps


IS_OFF = {"status": status("idle", "off", None)}
BUTTON, BOOT, SERVES = "pressed the power button of demo", "booted demo", "wait for protected or degraded"


@pytest.mark.parametrize(
    ("at", "state", "steps"),
    [
        (here(**LEADS), "off", [BUTTON, "wait for off"]),
        (here(), "off", ["wait for off"]),
        (witness(), "off", ["wait for off"]),
        (here(**IS_OFF), "off", []),
        (witness(status=status("witness", "off", None)), "off", []),
        (here(**IS_OFF), "running", [BOOT, SERVES]),
        (witness(status=status("witness", "off", None)), "running", [SERVES]),
        (here(**LEADS), "running", [SERVES]),
        (here(**OFF), "running", [f"enabled {UNIT}", f"started {UNIT}", SERVES]),
    ],
)
def test_a_vm_is_shut_down_and_booted_once(at, state, steps):
    assert does(plan.of_vm(at, want(state, wait=True))) == steps
    assert does(plan.of_vm(at, want(state))) == [step for step in steps if not step.startswith("wait")]


def test_who_does_not_run_cannot_shut_a_vm_down():
    with pytest.raises(Refusal, match=f"{UNIT} does not run, so nobody here can press the VM's power button; start it first"):
        plan.of_vm(here(**OFF), want("off"))


def test_a_vm_that_is_off_is_what_a_wait_for_a_running_one_waits_to_change():
    off = status("idle", "off", None)
    assert plan.holds(plan.wait(["protected"]), off) and plan.holds(plan.wait(["off"]), off)
    assert not plan.holds(plan.wait(plan.SERVES, runs=True), off) and plan.holds(plan.wait(plan.SERVES, runs=True), status())


def test_of_two_replicas_the_preferred_leader_boots_the_vm_first():
    for member, later in (("primary", False), ("secondary", True)):
        (step,) = plan.of_vm(here(member=member, **IS_OFF), want("running"))
        assert step["later"] is later


@pytest.mark.parametrize(
    ("at", "to", "steps"),
    [
        (here(**LEADS), "", ["wait for protected", "let primary take over", f"wait for {THERE}"]),
        (here(**LEADS), "primary", ["wait for protected", "let primary take over", f"wait for {THERE}"]),
        (here(**LEADS), "secondary", ["wait for protected or degraded with secondary as leader"]),
        (here(), "secondary", ["wait for protected or degraded with secondary as leader"]),
        (witness(), "primary", [f"wait for {THERE}"]),
    ],
)
def test_steps_of_a_switchover(at, to, steps):
    assert does(plan.of_switchover(at, want("", to=to))) == steps


@pytest.mark.parametrize(
    ("at", "to", "says"),
    [
        (here(), "", "to: is needed on a host that does not lead demo; name a replica (primary, secondary), or run this on pr"),
        (here(**LEADS), "witness", "to: witness is no replica of demo; choose one of primary, secondary"),
        (here(**OFF), "primary", "demo: not running"),
    ],
)
def test_a_switchover_that_cannot_be_meant_is_refused(at, to, says):
    with pytest.raises(Refusal) as error:
        plan.of_switchover(at, want("", to=to))
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("services", "leader", "said", "held"),
    [
        (["protected"], "", status(), True),
        (["protected"], "", status("idle"), False),  # just restarted: it remembers who was in sync before
        (["protected"], "", status("joining"), False),
        (["protected"], "primary", status(leader="secondary"), False),
        (plan.SERVES, "", status("idle", "degraded"), True),
        (plan.SERVES, "", status("idle", "down"), False),
    ],
)
def test_when_a_wait_is_over(services, leader, said, held):
    assert plan.holds(json.loads(json.dumps(plan.wait(services, leader))), said) is held


@pytest.mark.parametrize("services, leader", [(["protected"], ""), (plan.SERVES, ""), (plan.SERVES, "primary")])
def test_nobody_waits_for_a_vm_that_its_guest_has_powered_off(services, leader):
    assert plan.holds(plan.wait(services, leader), status("idle", "off", None, ["primary"]))
