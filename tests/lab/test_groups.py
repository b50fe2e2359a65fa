# SPDX-License-Identifier: GPL-3.0-or-later
"""Two groups of hosts in one inventory, with one witness host for both: what happens to one leaves the other alone."""

from __future__ import annotations

import json
import re

import pytest
from tasks import module

from lab import deploy
from lab.__main__ import execute, up, wait_ssh
from lab.hosts import ALL_HOSTS, SERVICE_IP, Host, down

GROUPS = {"demo": ("primary", "secondary", "witness"), "second": ("third", "fourth", "witness")}
ADDRESSES = {"demo": SERVICE_IP, "second": deploy.SECOND_IP}
SECOND_ONLY = ("--limit", "third,fourth,witness")


@pytest.fixture(scope="module", autouse=True)
def deployed():
    assert down() == []
    up(list(ALL_HOSTS))
    deploy.write_inventory(groups=True, patient=True)
    deploy.play()
    yield
    assert down() == []


@pytest.fixture
def primary_lost():
    """The second group is whole; the first one has lost its leader's host."""
    settle()
    Host("primary").power_loss()
    yield
    Host("primary").power_on()
    wait_ssh("primary")
    settle()


def settle():
    """Each VM leads where it shall; a busy machine may have seen a failover."""
    for vm, hosts in GROUPS.items():
        deploy.lead(hosts[0], 180, vm)


def status(host, vm):
    return deploy.ploverctl(host, "--vm", vm, "status")[1]


def run(name, *options, **variables):
    return deploy.play("-e", json.dumps(variables), *options, playbook=f"plover.vmft.{name}")


def refused(name, *options, **variables):
    with pytest.raises(SystemExit) as error:
        run(name, *options, **variables)
    return " ".join(str(error.value).split())


def settings(host):
    return execute(host, "cd /etc/plover && sha256sum *.json *.secret").stdout


def test_one_play_protects_both_and_changes_nothing_more():
    settle()
    changed, said = deploy.play()
    assert changed == 0
    rows = [line.split('"')[1].split() for line in said.splitlines() if line.strip().startswith(('"demo ', '"second '))]
    leads = {vm: status("witness", vm)["leader"] for vm in GROUPS}
    assert [row[:4] for row in rows] == [
        ["demo", "protected", SERVICE_IP, leads["demo"]],
        ["second", "protected", deploy.SECOND_IP, leads["second"]],
    ]
    assert all(leads[vm] in hosts[:2] for vm, hosts in GROUPS.items())
    for vm, hosts in GROUPS.items():
        deploy.wait_service(60, ADDRESSES[vm])
        assert {host: status(host, vm)["service"] for host in hosts} == dict.fromkeys(hosts, "protected")
        assert sorted(status("witness", vm)["in_sync"]) == sorted(hosts[:2])


def test_each_host_has_the_members_of_its_own_group_and_the_witness_those_of_both():
    found = module("plover", "plover_info")
    assert {host: sorted(info["vms"]) for host, info in found.items()} == {
        "primary": ["demo"],
        "secondary": ["demo"],
        "third": ["second"],
        "fourth": ["second"],
        "witness": ["demo", "second"],
    }
    assert {vm["kind"] for vm in found["witness"]["vms"].values()} == {"witness"}


def test_a_host_s_death_moves_its_own_vm_alone_and_the_other_group_goes_on_being_worked_on(primary_lost):
    for address in ADDRESSES.values():
        deploy.wait_service(60, address)
    before = status("fourth", "second")
    assert status("secondary", "demo")["role"] == "leader" and before["leader"] == "third"

    said = run("status")[1]
    assert said.count(" protected ") == 3 and re.search(r"demo +primary +- +silent ", said)
    assert "primary: ansible_host: nothing is reached" in refused("deploy_plover")
    assert "primary" in refused("deploy_plover", "--limit", "secondary,third"), "no VM is whole there"

    kept = settings("secondary"), settings("witness")
    assert deploy.play(*SECOND_ONLY)[0] == 0
    another = refused("deploy_plover", *SECOND_ONLY, runtime_version="9.9.9")
    assert "--limit: version 9.9.9 would also become that of demo on witness, outside of this run" in another
    leads = status("witness", "second")["leader"]
    run("switchover", "--limit", "all:!primary", plover_vm_name="second")
    assert {leads, status("witness", "second")["leader"]} == set(GROUPS["second"][:2])
    cut = "--limit leaves out primary, secondary, which have members of demo like witness"
    for play in ("upgrade", "rolling_restart", "rotate_secrets"):
        assert cut in refused(play, *SECOND_ONLY)
    assert cut in refused("reset", *SECOND_ONLY, plover_confirm="reset")
    assert (settings("secondary"), settings("witness")) == kept


def test_a_vm_is_added_to_a_group_alone():
    settle()
    before = {host: execute(host, "systemctl show -P MainPID 'plover-*@demo'").stdout for host in GROUPS["demo"]}
    assert "--limit leaves out fourth, which second needs" in refused(
        "add_vm", "--limit", "primary,secondary,witness,third", plover_vm_name="second"
    )
    run("remove_vm", *SECOND_ONLY, plover_vm_name="second", plover_confirm="second")
    run("add_vm", *SECOND_ONLY, plover_vm_name="second")
    deploy.wait_service(60, deploy.SECOND_IP)
    run("status", plover_status_strict=True)
    assert {host: execute(host, "systemctl show -P MainPID 'plover-*@demo'").stdout for host in GROUPS["demo"]} == before


def test_a_group_is_given_up_and_the_other_stays():
    settle()
    run("remove_vm", *SECOND_ONLY, plover_vm_name="second", plover_confirm="second")
    run("reset", "--limit", "third,fourth", plover_confirm="reset")
    assert execute("third", "ls -d /opt/plover /etc/plover /sys/class/net/br0").stdout == ""
    assert status("primary", "demo")["service"] == "protected"
