# SPDX-License-Identifier: GPL-3.0-or-later
"""What a backup of the configuration holds, and what is no backup."""

from __future__ import annotations

import pytest
import yaml
from ansible_collections.plover.vmft.plugins.module_utils._ansible.settings import settings_of, vm_of
from ansible_collections.plover.vmft.plugins.plugin_utils.backup import backup_of, inventory_from, of_host, secret_of

VM = {
    "name": "demo",
    "primary": "a",
    "secondary": "b",
    "witness": "c",
    "cluster_id": "6f9619ff-8b86-4d01-b42d-00cf4fc964ff",
    "mac": "52:54:00:70:6c:01",
    "kernel": "images/vmlinuz",
    "memory_mib": 512,
    "disks": [{"path": "/srv/a.img", "source": "images/a.img"}],
    "settings": {"failover_budget_ms": 2000},
}
HOSTS = {"a": "10.0.0.1", "b": "10.0.0.2", "c": "10.0.0.3"}


def infos():
    out = {}
    for host in HOSTS:
        settings = settings_of(VM, host, HOSTS)
        out[host] = {
            "host": {} if host == "c" else {"plover_bridge_name": "br0", "plover_bridge_member": "eno2"},
            "vms": {
                "demo": {
                    "kind": settings["members"][host]["kind"],
                    "configuration": {
                        "vm": vm_of(settings),
                        "variables": {},
                        "hosts": {name: {"plover_replication_address": HOSTS[name]} for name in HOSTS},
                    },
                }
            },
        }
    return out


def hostvars():
    return {
        host: {
            "ansible_host": f"192.0.2.{at}",
            "ansible_ssh_pass": "hush",
            "plover_wheel_dir": "wheels",
            "plover_vms": [VM],
            "plover_seen": {},
        }
        for at, host in enumerate(HOSTS)
    }


def made(**secrets):
    return backup_of(infos(), hostvars(), {host: {"demo": text} for host, text in secrets.items()})


def test_the_inventory_that_comes_back_makes_the_same_settings():
    inventory = inventory_from(yaml.safe_load(yaml.safe_dump(made())))
    vm = inventory["plover"]["vars"]["plover_vms"][0]
    assert {host: settings_of(vm, host, HOSTS) for host in HOSTS} == {host: settings_of(VM, host, HOSTS) for host in HOSTS}


def test_images_are_named_as_the_inventory_names_them():
    vm = made()["inventory"]["plover"]["vars"]["plover_vms"][0]
    assert (vm["kernel"], vm["disks"][0]["source"]) == ("images/vmlinuz", "images/a.img")


def test_the_way_to_the_hosts_is_kept_but_no_password_and_nothing_that_a_play_made():
    replicas = made()["inventory"]["plover"]["children"]["plover_replicas"]["hosts"]
    assert replicas["a"] == {
        "ansible_host": "192.0.2.0",
        "plover_wheel_dir": "wheels",
        "plover_bridge_name": "br0",
        "plover_bridge_member": "eno2",
        "plover_replication_address": "10.0.0.1",
    }
    assert of_host({"ansible_become_pass": "x", "ansible_become": True}) == {"ansible_become": True}


def test_the_secret_is_the_one_that_proves_and_a_vm_without_one_gets_none():
    text = "# a comment\nnew-secret\nold-secret\nopen\n"
    assert secret_of(["", text]) == "new-secret" and secret_of(["open\n", ""]) == ""
    assert made(a=text)["inventory"]["plover"]["vars"]["plover_vms"][0]["secret"] == "new-secret"
    assert "secret" not in made()["inventory"]["plover"]["vars"]["plover_vms"][0]


def test_the_fence_agents_input_comes_back():
    made = backup_of(infos(), hostvars(), {}, {"a": {"demo": ""}, "b": {"demo": "passwd=hush"}})
    assert made["inventory"]["plover"]["vars"]["plover_vms"][0]["fence_input"] == "passwd=hush"


@pytest.mark.parametrize(
    ("backup", "says"),
    [
        (None, "is no backup"),
        ([], "is no backup"),
        ({"plover": {}}, "is no backup"),
        ({"plover_backup": 2}, "is no backup"),
        ({"plover_backup": 1}, "damaged"),
        ({"plover_backup": 1, "inventory": {"plover": []}}, "damaged"),
        ({"plover_backup": 1, "inventory": {"plover": {"vars": {"plover_vms": [{"primary": "a"}]}, "children": {}}}}, "damaged"),
        (
            {
                "plover_backup": 1,
                "inventory": {"plover": {"vars": {"plover_vms": [VM]}, "children": {"plover_replicas": {"hosts": {"a": {}, "b": {}}}}}},
            },
            "has no host c",
        ),
    ],
)
def test_what_is_no_backup_is_refused_with_the_remedy(backup, says):
    with pytest.raises(ValueError, match=says):
        inventory_from(backup)
