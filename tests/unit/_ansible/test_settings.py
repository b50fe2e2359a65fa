# SPDX-License-Identifier: GPL-3.0-or-later
"""plover_vms and the settings files: one from the other, and back to the same."""

from __future__ import annotations

import json

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from ansible_collections.plover.vmft.plugins.filter import plover_settings as filters
from ansible_collections.plover.vmft.plugins.module_utils._ansible import settings as ps
from hypothesis import given
from hypothesis import strategies as st
from plover.config.settings import Config

from lab.paths import ROOT

INVENTORY = yaml.safe_load((ROOT / "playbooks" / "inventory.example.yml").read_text())["plover"]
VM = INVENTORY["vars"]["plover_vms"][0]
ADDRESSES = {
    host: variables["plover_replication_address"] for group in INVENTORY["children"].values() for host, variables in group["hosts"].items()
}


def vms():
    """Entries of plover_vms: the example's, with some keys left out and others given."""
    more = {
        "port": st.integers(1024, 65535),
        "memory_mib": st.integers(32, 4096),
        "vcpus": st.integers(1, 8),
        "accel": st.sampled_from(["tcg", "kvm"]),
        "on_poweroff": st.sampled_from(["off", "restart"]),
        "on_crash": st.sampled_from(["ignore", "keep", "restart", "stop"]),
        "cmdline": st.text("abc =.", max_size=20),
        "tap": st.just("tap7"),
        "addresses": st.lists(st.just("192.168.79.51"), max_size=1),
        "bridge": st.sampled_from(["", "br7"]),
        "initrd": st.sampled_from(["", "images/initrd.img"]),
        "disk_overlay_mib": st.integers(8, 512),
        "disks": st.lists(st.just({"path": "/d.img", "source": "d.img", "size_mib": 4, "serial": "s"}), max_size=1),
        "kernel": st.just(""),  # it boots from its disk or its CD
        "boot": st.sampled_from(["disk", "cdrom"]),
        "cdrom": st.sampled_from(["", "/srv/cd.iso"]),
        "cloud_init": st.sampled_from(["", {"user_data": "#cloud-config"}]),
        "settings": st.sampled_from([{}, {"failover_budget_ms": 2000}, {"disk_port": 7500, "guest_cpu": "host"}]),
    }
    base = {key: VM[key] for key in ("name", "primary", "secondary", "witness", "cluster_id", "mac", "kernel")}
    return st.fixed_dictionaries({}, optional=more).map(lambda extra: {**base, **extra})


@given(vms(), st.sampled_from([{}, {"plover_bridge_name": "br9", "plover_disk_overlay_dir": "/run/o"}]))
def test_the_round_trip_gives_the_same_settings_on_every_member(vm, defaults):
    for member in ADDRESSES:
        settings = ps.settings_of(vm, member, ADDRESSES, defaults)
        again = ps.settings_of(ps.vm_of(settings), member, ADDRESSES, ps.variables_of(settings))
        assert json.dumps(again, sort_keys=True) == json.dumps(settings, sort_keys=True)


@pytest.mark.parametrize("member", list(ADDRESSES))
def test_the_example_s_settings_are_ones_that_the_runtime_takes(member):
    settings = ps.settings_of(VM, member, ADDRESSES)
    assert Config(settings).kind == ("witness" if member == "witness" else "replica")
    assert settings["guest_kernel"] == "/var/lib/plover/images/demo/kernel"


def test_a_vm_s_own_settings_win():
    settings = ps.settings_of({**VM, "settings": {"guest_cpu": "host", "network_tap": "x"}}, "primary", ADDRESSES)
    assert (settings["guest_cpu"], settings["network_tap"]) == ("host", "x")


def test_a_vm_without_kernel_has_its_seed_by_name_alone():
    vm = {key: VM[key] for key in VM if key not in ("kernel", "initrd", "cmdline")}
    vm.update(disks=[{"path": "/d.img"}], cloud_init={"user_data": "#cloud-config\npassword: p4ss"})
    settings = ps.settings_of(vm, "primary", ADDRESSES)
    config = Config(settings)
    assert config.guest_kernel == "" and config.guest_seed == "/var/lib/plover/images/demo/seed" and "p4ss" not in json.dumps(settings)


X86_64_V2 = {"+ssse3", "+sse4.1", "+sse4.2", "+popcnt"}  # beside what qemu64 has


def hostvars_with(looks, of_another):
    """``looks``: what each replica has seen of the VM's earlier settings; None: nothing yet."""
    hostvars = {host: {"plover_replication_address": address} for host, address in ADDRESSES.items()}
    for host, look in zip(("primary", "secondary"), looks or ()):
        rows = [{"item": {"name": "demo"}, "stdout": f"{look}\n"}, {"item": {"name": "other"}, "stdout": of_another}]
        hostvars[host]["runtime_earlier"] = {"results": rows}
    return hostvars


@pytest.mark.parametrize(
    "given, looks, cpu",
    [
        ({}, None, "current"),
        ({}, ["", ""], "current"),
        ({}, ["unnamed", "unnamed"], None),
        ({}, ["", "unnamed"], None),  # one host was replaced
        ({"settings": {"guest_cpu": "max"}}, ["unnamed", "unnamed"], "max"),
        ({"settings": {"guest_cpu": "max"}}, ["", ""], "max"),
    ],
)
@pytest.mark.parametrize("member", list(ADDRESSES))
def test_a_new_vm_has_a_cpu_of_today_and_one_of_an_earlier_version_keeps_its_own(given, looks, cpu, member):
    hostvars = hostvars_with(looks, "unnamed")
    settings = filters._settings({**VM, **given}, member, hostvars)
    found = settings.get("guest_cpu")
    assert found == cpu if cpu != "current" else X86_64_V2 <= set(found.split(","))
    assert ps.vm_of(settings).get("settings", {}).get("guest_cpu") == (found if cpu == "max" else None)


@pytest.mark.parametrize(
    ("given", "looks", "accel"),
    [
        ({}, None, "kvm"),
        ({}, ["", ""], "kvm"),
        ({"accel": "auto"}, [" ", " "], "kvm"),
        ({}, [" tcg", " tcg"], "tcg"),
        ({"accel": "auto"}, ["", "unnamed tcg"], "tcg"),  # one host was replaced
        ({"accel": "kvm"}, ["tcg", "tcg"], "kvm"),
        ({"accel": "tcg"}, None, "tcg"),
    ],
)
@pytest.mark.parametrize("member", list(ADDRESSES))
def test_a_vm_runs_under_kvm_unless_tcg_is_named_or_was_so_before(given, looks, accel, member):
    hostvars = hostvars_with(looks, "tcg")
    settings = filters._settings({**{k: v for k, v in VM.items() if k != "accel"}, **given}, member, hostvars)
    assert settings["guest_accel"] == accel == ps.vm_of(settings)["accel"]


@pytest.mark.parametrize(
    ("given", "looks", "machine"),
    [
        ({}, None, None),
        ({}, ["new=pc-i440fx-7.2", "new=pc-i440fx-7.2"], "pc-i440fx-7.2"),
        ({}, ["new=pc-i440fx-7.2", "new=pc-i440fx-10.0"], None),
        ({}, ["tcg machine=pc", "machine=pc"], None),  # made by an earlier version
        ({}, ["machine=pc-i440fx-7.2", "machine=pc-i440fx-7.2"], "pc-i440fx-7.2"),
        ({}, ["new=pc-i440fx-10.0", "machine=pc-i440fx-7.2"], "pc-i440fx-7.2"),  # one host was replaced
        ({}, ["new=pc-i440fx-10.0", "machine=pc"], None),
        ({}, ["new=pc-q35-7.2", "new=pc-q35-7.2"], None),
        ({}, ["new=pc-i440fx-rhel7.6.0", "new=pc-i440fx-rhel7.6.0"], None),
        ({"settings": {"guest_machine": "pc"}}, ["new=pc-i440fx-7.2", "new=pc-i440fx-7.2"], "pc"),
    ],
)
@pytest.mark.parametrize("member", list(ADDRESSES))
def test_the_machine_type_is_the_one_that_the_vm_was_made_with(given, looks, machine, member):
    hostvars = hostvars_with(looks, "machine=pc-i440fx-1.0")
    settings = filters._settings({**VM, **given}, member, hostvars)
    assert settings.get("guest_machine") == machine
    assert ps.settings_of(ps.vm_of(settings), member, ADDRESSES).get("guest_machine") == machine


def test_a_disk_s_source_and_size_are_not_for_the_runtime():
    disk = {"path": "/d.img", "format": "qcow2", "source": "s.img", "size_mib": 4}
    settings = ps.settings_of({**VM, "disks": [disk]}, "primary", ADDRESSES)
    assert settings["disks"] == [{"path": "/d.img", "format": "qcow2"}]


def info(host, kind="replica", vm=VM, **variables):
    settings = ps.settings_of(vm, host, ADDRESSES)
    return {
        "host": variables,
        "vms": {
            vm["name"]: {
                "kind": kind,
                "configuration": {"vm": ps.vm_of(settings), "hosts": ps.hosts_of(settings), "variables": ps.variables_of(settings)},
            }
        },
    }


def test_an_inventory_from_what_the_hosts_say():
    out = ps.inventory_of(
        {
            "primary": info("primary", plover_bridge_name="br0"),
            "witness": info("witness", "witness"),
            "secondary": info("secondary", plover_bridge_name="br1"),
        }
    )["plover"]
    replicas = out["children"]["plover_replicas"]["hosts"]
    assert {host: v["plover_bridge_name"] for host, v in replicas.items()} == {"primary": "br0", "secondary": "br1"}
    assert {
        host: v["plover_replication_address"] for host, v in {**replicas, **out["children"]["plover_witnesses"]["hosts"]}.items()
    } == ADDRESSES
    assert [vm["name"] for vm in out["vars"]["plover_vms"]] == ["demo"]


def test_a_host_without_members_is_kept_and_none_at_all_is_an_empty_inventory():
    out = ps.inventory_of({"spare": {"vms": {}, "host": {"plover_bridge_name": "br0"}}})["plover"]
    assert out["children"]["plover_witnesses"]["hosts"] == {"spare": {"plover_bridge_name": "br0"}}
    out = ps.inventory_of({})["plover"]
    assert (out["children"]["plover_replicas"], out["vars"]) == ({"hosts": {}}, {"plover_vms": []})


@pytest.mark.parametrize(
    ("text", "variables"),
    [
        ("# Ansible managed\nBRIDGE=br0\nMEMBER=eno1\n", {"plover_bridge_name": "br0", "plover_bridge_member": "eno1"}),
        ("BRIDGE='br0'\nMODE=x\n\nMEMBER=\n", {"plover_bridge_name": "br0"}),
        ("", {}),
        ("nonsense", {}),
    ],
)
def test_the_bridge_s_variables(text, variables):
    assert ps.bridge_of(text) == variables


FILTERS = filters.FilterModule().filters()


def test_the_filter_reads_the_hosts_variables():
    hostvars = {host: {"plover_replication_address": address} for host, address in ADDRESSES.items()}
    assert FILTERS["plover_settings"](VM, "witness", hostvars) == ps.settings_of(VM, "witness", ADDRESSES)
    del hostvars["secondary"]["plover_replication_address"]
    with pytest.raises(AnsibleFilterError, match="plover_settings: plover_replication_address of secondary: is missing"):
        FILTERS["plover_settings"](VM, "witness", hostvars)


@pytest.mark.parametrize("vm", [{}, {"name": "demo"}, [], None, {**VM, "port": "many"}, {**VM, "disks": 7}])
def test_an_entry_that_is_none_is_a_clear_error(vm):
    with pytest.raises(AnsibleFilterError, match="plover.vmft.plover_settings: "):
        FILTERS["plover_settings"](vm, "primary", {host: {"plover_replication_address": "1.2.3.4"} for host in ADDRESSES})


@pytest.mark.parametrize("infos", [None, [], {"primary": None}, {"primary": {"vms": {"demo": {}}}}])
def test_infos_that_are_none_are_a_clear_error(infos):
    with pytest.raises(AnsibleFilterError, match="plover.vmft.plover_inventory: "):
        FILTERS["plover_inventory"](infos)
