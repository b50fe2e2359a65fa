# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules on a deployed lab: their EXAMPLES, their guards, what a play shows of them, the round trip of plover_info."""

from __future__ import annotations

import ast
import re

import pytest
import yaml
from tasks import FOLDER, daemons, module, run

from lab import deploy
from lab.__main__ import execute
from lab.hosts import HOSTS
from lab.paths import ROOT

pytestmark = pytest.mark.usefixtures("deployed")
MODULES = ROOT / "plugins" / "modules"
WHERE = {"plover_replica": "plover_replicas", "plover_witness": "plover_witnesses"}
NEVER_TWICE = ("restarted", "off", "running")  # off and running undo one another
EXAMPLES = ["plover_vm", "plover_info", "plover_replica", "plover_witness", "plover_switchover"]
WAYS = (
    "ansible_host",
    "ansible_user",
    "ansible_ssh_common_args",
    "ansible_control_path_dir",
    "ansible_python_interpreter",
    "plover_wheel_dir",
)
SETTINGS_ONLY = ("--tags", "secrets,witness,vm,report")


def examples(name: str) -> list[dict]:
    """The tasks of a module's or a filter's documentation."""
    path = MODULES / f"{name}.py"
    if not path.exists():
        return yaml.safe_load(yaml.safe_load((ROOT / "plugins" / "filter" / f"{name}.yml").read_text())["EXAMPLES"])
    values = {target.id: node.value for node in ast.parse(path.read_text()).body if isinstance(node, ast.Assign) for target in node.targets}
    return yaml.safe_load(ast.literal_eval(values["EXAMPLES"]))


def settings(host: str = "primary") -> dict:
    return yaml.safe_load(execute(host, "cat /etc/plover/demo.json").stdout)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_do_what_they_say_and_nothing_more_the_second_time(name):
    deploy.lead("primary", 120)
    tasks = examples(name)
    assert tasks
    run(WHERE.get(name, "plover"), tasks)
    assert deploy.wait_protected("primary", 60)["service"] == "protected"
    again = [task for task in tasks if (task[f"plover.vmft.{name}"] or {}).get("state") not in NEVER_TWICE]
    changed, _ = run(WHERE.get(name, "plover"), again)
    assert again and changed == 0


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_in_check_mode_change_nothing(name):
    deploy.lead("primary", 120)
    pids = daemons()
    run(WHERE.get(name, "plover"), examples(name), "--check", "--diff")
    assert daemons() == pids


def test_the_action_group_gives_every_module_its_defaults():
    """A time-out that none can keep, for one module that waits; and a module that takes it without waiting."""
    tasks = [
        {"plover.vmft.plover_info": {}},
        {"plover.vmft.plover_switchover": {"name": "demo", "to": "secondary"}, "register": "found", "ignore_errors": True},
        {"ansible.builtin.assert": {"that": "'after 0 s (timeout_s)' in found.msg"}},
    ]
    deploy.lead("primary", 120)
    run("witness", tasks, module_defaults={"group/plover.vmft.plover": {"timeout_s": 0}})


def test_a_leader_is_restarted_only_with_a_switchover():
    deploy.lead("primary", 120)
    pid = execute("primary", "systemctl show -P MainPID plover-replica@demo").stdout
    result = module("primary", "plover_replica", name="demo", state="restarted")["primary"]
    assert result["failed"] and result["refused"] and "Give switchover: true" in result["msg"]
    assert execute("primary", "systemctl show -P MainPID plover-replica@demo").stdout == pid
    result = module("primary", "plover_replica", name="demo", state="restarted", switchover=True)["primary"]
    assert result["actions"] == ["let secondary take over", "restarted plover-replica@demo.service"]
    assert (result["status"]["service"], result["status"]["leader"]) == ("protected", "secondary")
    assert execute("primary", "systemctl show -P MainPID plover-replica@demo").stdout != pid


def test_nothing_is_restarted_while_it_is_needed_and_a_long_wait_shows_how_far_it_is():
    deploy.lead("primary", 120)
    assert module("secondary", "plover_replica", name="demo", state="stopped")["secondary"]["actions"] == [
        "stopped plover-replica@demo.service",
        "ended plover-qemu@demo.service",
    ]
    assert execute("secondary", "systemctl is-active plover-qemu@demo").stdout == "inactive\n"
    for host, seat in (("primary", "replica"), ("witness", "witness")):
        for state in ("restarted", "stopped", "absent"):
            result = module(host, f"plover_{seat}", name="demo", state=state)[host]
            assert result["refused"] and "Wait until it is protected, or give force: true" in result["msg"]
    _, said = run("primary", [{"plover.vmft.plover_vm": {"name": "demo", "timeout_s": 7}, "ignore_errors": True}])
    assert re.search(r"primary +\d\.\d s  demo: degraded; leading without protection", said), said
    said = " ".join(said.split())
    assert "VM demo is not protected after 7 s (timeout_s). The daemon says: leader, degraded: leading" in said
    result = module("secondary", "plover_replica", name="demo", wait=True)["secondary"]
    assert result["actions"] == ["started plover-replica@demo.service"] and result["status"]["service"] == "protected"
    texts = [said["text"] for said in result["progress"]]
    assert texts[-1].startswith("demo: protected; following primary") and len(texts) > 1


def test_a_vm_is_shut_down_and_booted_by_both_replicas_at_once():
    deploy.lead("primary", 120)
    off = module("plover_replicas", "plover_vm", name="demo", state="off")
    assert [sorted(result["actions"]) for result in off.values()].count(["pressed the power button of demo"]) == 1
    assert {result["status"]["service"] for result in off.values()} == {"off"}
    again = module("plover_replicas", "plover_vm", name="demo", state="off")
    assert not any(result["changed"] for result in again.values())
    on = module("plover_replicas", "plover_vm", name="demo", state="running")
    assert "booted demo" in str(on) and {result["status"]["service"] for result in on.values()} <= {"protected", "degraded"}
    deploy.wait_protected("primary", 120)
    deploy.wait_service(60)
    again = module("plover_replicas", "plover_vm", name="demo", state="running")
    assert not any(result["changed"] for result in again.values())


def test_changed_settings_restart_all_but_the_leader_and_the_play_says_what_remains():
    deploy.lead("primary", 120)
    vms = yaml.safe_load(deploy.INVENTORY.read_text())["plover"]["vars"]["plover_vms"]
    # So little that a heartbeat of the leader, which waits for its restart, comes as rarely as the others' detection time.
    vms[0]["settings"] = {"failover_budget_ms": deploy.PATIENT["failover_budget_ms"] // 5}
    changes = FOLDER / "changed.yml"
    changes.write_text(yaml.safe_dump({"plover_vms": vms}))
    _, said = deploy.play(*SETTINGS_ONLY, "-e", f"@{changes}")
    said = " ".join(said.split())
    assert "which leads: its clients would wait for a failover" in said
    assert "ansible-playbook -i INVENTORY plover.vmft.rolling_restart" in said
    found = module("plover", "plover_info")
    leader = found["primary"]["vms"]["demo"]["status"]["leader"]
    assert leader == "primary"  # nobody asked another to lead
    assert {host for host in HOSTS if found[host]["vms"]["demo"]["pending"]} == {leader}
    assert "failover_budget_ms" in found[leader]["vms"]["demo"]["pending"]
    module(leader, "plover_replica", name="demo", state="restarted", switchover=True)
    assert not any(info["vms"]["demo"]["pending"] for info in module("plover", "plover_info").values())
    assert deploy.play(*SETTINGS_ONLY, "-e", f"@{changes}")[0] == 0
    deploy.play(*SETTINGS_ONLY)  # back, so that the tests after this one meet what they expect
    leader = deploy.wait_protected("primary", 120)["leader"]
    module(leader, "plover_replica", name="demo", state="restarted", switchover=True)


def test_settings_that_all_must_share_restart_nobody():
    deploy.lead("primary", 120)
    vms = yaml.safe_load(deploy.INVENTORY.read_text())["plover"]["vars"]["plover_vms"]
    vms[0]["memory_mib"] = 320
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "changed.yml").write_text(yaml.safe_dump({"plover_vms": vms}))
    pids = daemons()
    _, said = deploy.play(*SETTINGS_ONLY, "-e", f"@{FOLDER / 'changed.yml'}")
    said = " ".join(said.split())
    assert "the new guest_memory_mib must come into force on all members at once" in said
    assert "next: ansible-playbook -i INVENTORY plover.vmft.restart_vm" in said and "rolling_restart" not in said
    assert daemons() == pids
    assert deploy.wait_protected("primary", 60)["service"] == "protected"


def memory_mib() -> set[str]:
    """Of the VM, as the command lines of both QEMUs say."""
    return {
        execute(host, "grep -aoz 'size=[0-9]*M' /proc/$(pidof qemu-system-x86_64)/cmdline").stdout.strip("\0")
        for host in ("primary", "secondary")
    }


def test_one_restart_of_the_guest_brings_them_into_force():
    """The settings that the test before has written."""
    assert memory_mib() == {"size=256M"}
    with pytest.raises(SystemExit, match="to confirm, add"):
        deploy.play(playbook="plover.vmft.restart_vm")
    assert "demo: the new guest_memory_mib come into force" in deploy.play("--check", playbook="plover.vmft.restart_vm")[1]
    assert memory_mib() == {"size=256M"} and deploy.wait_protected("primary", 60)["service"] == "protected"
    deploy.play("-e", "plover_confirm=restart", playbook="plover.vmft.restart_vm")
    assert memory_mib() == {"size=320M"}
    deploy.wait_service(60)
    assert deploy.play(playbook="plover.vmft.restart_vm")[0] == 0
    deploy.play(*SETTINGS_ONLY)
    deploy.play("-e", "plover_confirm=restart", playbook="plover.vmft.restart_vm")
    assert memory_mib() == {"size=256M"}


def test_the_exported_inventory_is_a_round_trip():
    """Inventory, deployment, export: the same settings to the byte, and a play with the export has nothing to do."""
    before = {host: execute(host, "md5sum /etc/plover/demo.json").stdout for host in HOSTS}
    run("plover", examples("plover_inventory"))
    exported = yaml.safe_load((FOLDER / "exported.yml").read_text())
    given = yaml.safe_load(deploy.INVENTORY.read_text())["plover"]
    assert exported["plover"]["vars"]["plover_vms"][0]["cluster_id"] == given["vars"]["plover_vms"][0]["cluster_id"]
    ways = {"plover": {"hosts": {}, "vars": {key: given["vars"][key] for key in WAYS if key in given["vars"]}}}
    for group in given["children"].values():
        for host, variables in group["hosts"].items():
            ways["plover"]["hosts"][host] = {key: variables[key] for key in WAYS if key in variables}
    (FOLDER / "ways.yml").write_text(yaml.safe_dump(ways))
    kept = deploy.INVENTORY
    try:
        deploy.INVENTORY = FOLDER / "exported.yml"
        changed, _ = deploy.play("-i", str(FOLDER / "ways.yml"))
    finally:
        deploy.INVENTORY = kept
    assert changed == 0
    assert {host: execute(host, "md5sum /etc/plover/demo.json").stdout for host in HOSTS} == before


def test_the_filters_example_shows_what_is_written():
    _, said = run("primary", examples("plover_settings"))
    assert f'"guest_mac": "{settings()["guest_mac"]}"' in said


def test_status_watch_shows_what_happens():
    deploy.lead("primary", 120)
    execute("witness", "nohup timeout 60 ploverctl status --watch >/tmp/watched 2>&1 & sleep 1")
    deploy.lead("secondary", 120)
    said = execute("witness", "sleep 1; cat /tmp/watched").stdout
    assert re.search(r"\d\d:\d\d:\d\d demo: protected; witness is witness: voting; primary leads\n", said)
    assert "voting; secondary leads\n" in said


def test_absent_leaves_nothing_of_the_member():
    deploy.lead("primary", 120)
    files = "ls -d /etc/plover/demo.json /var/lib/plover/demo /run/plover/demo /dev/shm/plover/demo.ram"
    assert len(execute("secondary", files).stdout.split()) == 4
    result = module("secondary", "plover_replica", name="demo", state="absent")["secondary"]
    assert result["changed"] and execute("secondary", files).stdout == ""
    assert execute("secondary", "systemctl is-enabled plover-replica@demo; pgrep -c qemu-system").stdout == "disabled\n0\n"
    assert not module("secondary", "plover_replica", name="demo", state="absent")["secondary"]["changed"]
    deploy.play()  # the member comes back as a new one
    assert deploy.wait_protected("primary", 120)["service"] == "protected"
