# SPDX-License-Identifier: GPL-3.0-or-later
"""The day-2 plays, one after another on one lab, as an operator uses them. Upgrade, rollback, reset: molecule/upgrade."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest
import yaml
from tasks import daemons

from lab import deploy
from lab.__main__ import execute, up, wait_ssh
from lab.hosts import HOSTS, Host
from lab.paths import LAB

pytestmark = pytest.mark.usefixtures("deployed")
# A VM more, which runs the other way round. On a busy machine two VMs need more patience than one.
SECOND = {
    "name": "second",
    "primary": "secondary",
    "secondary": "primary",
    "cluster_id": "0b7f0f8e-2ad7-4a6c-9d35-3f3f6d1f7a10",
    "mac": "52:54:00:70:6c:02",
    "addresses": ["192.168.79.51"],
    "memory_mib": 160,
    "port": 7430,
    "tap": "plover1",
    "settings": deploy.PATIENT,
}


def run(name: str, **variables) -> tuple[int, str]:
    return deploy.play("-e", json.dumps(variables), playbook=f"plover.vmft.{name}")


def refused(name: str, **variables) -> str:
    with pytest.raises(SystemExit) as error:
        run(name, **variables)
    return " ".join(str(error.value).split())


def leaders() -> dict[str, str]:
    """VM -> its leader, as the witness hears."""
    out = {}
    for path in execute("witness", "ls /etc/plover/*.json").stdout.split():
        name = path.split("/")[-1].removesuffix(".json")
        out[name] = json.loads(execute("witness", f"ploverctl --vm {name} status -o json").stdout)["leader"]
    return out


def demo_at(host: str) -> dict:
    return json.loads(execute(host, "ploverctl --vm demo status -o json").stdout)


def inventory() -> dict:
    return yaml.safe_load(deploy.INVENTORY.read_text())


@pytest.fixture(scope="module")
def two_vms(deployed):
    """VM second is there too, put there by the play."""
    wanted = inventory()
    first = wanted["plover"]["vars"]["plover_vms"][0]
    second = {**first, **SECOND, "cmdline": first["cmdline"].replace("192.168.79.50", "192.168.79.51")}
    wanted["plover"]["vars"]["plover_vms"].append(second)
    deploy.INVENTORY.write_text(yaml.safe_dump(wanted, sort_keys=False))
    before = daemons()
    changed, _ = run("add_vm", plover_vm_name="second")
    assert changed > 0
    assert all(before[host] <= found for host, found in daemons().items()), "the first VM's members were restarted"


def test_a_vm_is_added_beside_the_other_and_all_are_protected(two_vms):
    changed, said = run("status", plover_status_strict=True)
    assert changed == 0 and said.count(" protected ") == 6 and leaders()["second"] in ("primary", "secondary")


def test_a_name_that_is_not_in_the_inventory_is_not_added(two_vms):
    assert "plover_vm_name: third: name the new VM" in refused("add_vm", plover_vm_name="third")


def test_all_vms_leave_a_host_and_go_back_to_their_preferred_leaders(two_vms):
    run("switchover", plover_away_from="primary")
    assert set(leaders().values()) == {"secondary"}
    run("switchover")
    assert leaders() == {"demo": "primary", "second": "secondary"}
    assert run("switchover")[0] == 0
    assert "set one of them, or neither" in refused("switchover", plover_away_from="nowhere")


def test_every_member_is_restarted_one_at_a_time_and_only_if_asked_for(two_vms):
    before = daemons()
    assert run("rolling_restart")[0] == 0 and daemons() == before
    run("rolling_restart", runtime_restart_all=True)
    assert not any(before[host] & found for host, found in daemons().items())
    run("status", plover_status_strict=True)


@pytest.fixture
def broken(tmp_path, monkeypatch):
    """The collection, whose replicas end as soon as they are started, under another number."""
    copy = tmp_path / "collections"
    shutil.copytree(deploy.COLLECTIONS, copy)
    packed = next(copy.rglob("plover-runtime.tar"))
    subprocess.run(["tar", "-xf", packed], cwd=tmp_path, check=True)
    (tmp_path / "lib" / "plover" / "replica" / "__main__.py").write_text("raise SystemExit('this version is broken')\n")
    subprocess.run(["tar", "-cf", packed, "--owner=0", "--group=0", "lib", "bin", "units"], cwd=tmp_path, check=True)
    monkeypatch.setattr(deploy, "COLLECTIONS", copy)


def test_an_upgrade_that_does_not_come_back_goes_back(two_vms, broken):
    before = {host: execute(host, "readlink -f /opt/plover/current").stdout for host in HOSTS}
    said = refused("upgrade", runtime_version="9.9.9", runtime_restart_timeout_s=20)
    assert "All changed members run the previous version again" in said, said
    assert {host: execute(host, "readlink -f /opt/plover/current").stdout for host in HOSTS} == before
    run("status", plover_status_strict=True)
    assert not any("9.9.9" in execute(host, "cat /proc/[0-9]*/environ | tr '\\0' '\\n'").stdout for host in HOSTS)


def test_secrets_are_changed_while_all_runs(two_vms):
    def secrets():
        return {execute(host, "cat /etc/plover/demo.secret").stdout for host in HOSTS}

    before, members = secrets(), daemons()
    run("rotate_secrets")
    assert len(secrets()) == 1 and secrets() != before and daemons() == members


def test_a_backup_comes_back_as_an_inventory_with_which_nothing_is_to_do(two_vms, tmp_path):
    backup, restored = tmp_path / "backup.yml", tmp_path / "inventory.yml"
    run("backup_config", plover_backup_file=str(backup))
    assert backup.stat().st_mode & 0o777 == 0o600
    run("restore_config", plover_backup_file=str(backup), plover_inventory_file=str(restored))
    assert restored.stat().st_mode & 0o777 == 0o600
    ours = deploy.INVENTORY.read_text()
    try:
        deploy.INVENTORY.write_text(restored.read_text())
        changed, said = deploy.play("--check", "--diff")
        assert changed == 0, said
    finally:
        deploy.INVENTORY.write_text(ours)
    restored.write_text("plover: {}\n")
    assert "is there already, and differs" in refused("restore_config", plover_backup_file=str(backup), plover_inventory_file=str(restored))


def test_a_vm_is_removed_only_with_its_name_said_twice_and_leaves_nothing(two_vms):
    assert "to confirm, repeat its name in plover_confirm" in refused("remove_vm", plover_vm_name="second")
    run("remove_vm", plover_vm_name="second", plover_confirm="second")
    left = (
        "find /etc /run /var/lib/plover /dev/shm -name '*second*' ! -path '/run/systemd/*' ! -name '*secondary*';"
        "systemctl list-units --plain --no-legend '*@second*'"
    )
    assert {host: execute(host, left).stdout for host in HOSTS} == dict.fromkeys(HOSTS, "")
    wanted = inventory()
    wanted["plover"]["vars"]["plover_vms"].pop()
    deploy.INVENTORY.write_text(yaml.safe_dump(wanted, sort_keys=False))
    assert run("status", plover_status_strict=True)[1].count(" protected ") == 3


def test_a_wheel_that_is_missing_or_another_is_refused(tmp_path):
    said = refused("deploy_plover", plover_wheel_dir=str(tmp_path))
    assert "plover_wheel_dir:" in said and "is not on this machine" in said and "pip download --no-deps qemu.qmp==" in said
    for wheel in (LAB / "wheels").glob("*.whl"):
        (tmp_path / wheel.name).write_bytes(wheel.read_bytes() + b"\n")
    assert "is not the release that this version was made with" in refused("deploy_plover", plover_wheel_dir=str(tmp_path))


def test_a_host_that_is_gone_is_replaced_by_a_fresh_one_while_the_vm_serves():
    deploy.lead("primary", 120)
    assert "hears that primary leads demo" in refused("replace_host", plover_host="primary")
    Host("secondary").destroy()
    up(["secondary"])
    run("replace_host", plover_host="secondary")
    run("status", plover_status_strict=True)


def test_without_a_quorum_the_price_is_shown_and_paid_only_when_confirmed(deployed):
    deploy.lead("primary", 120)
    asked = {"plover_vm_name": "demo", "plover_host": "secondary"}
    assert "secondary cannot lead: ploverctl: primary leads" in refused("failover", **asked)
    for host in ("witness", "primary"):
        Host(host).power_loss()
    assert "The price of leading from this host" in refused("failover", **asked)
    assert demo_at("secondary")["role"] != "leader"
    run("failover", **asked, plover_confirm="demo")
    assert demo_at("secondary")["role"] == "leader"
    for host in ("witness", "primary"):
        Host(host).power_on()
        wait_ssh(host)
    deploy.wait_protected("secondary", 120)
