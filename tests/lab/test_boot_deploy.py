# SPDX-License-Identifier: GPL-3.0-or-later
"""The play deploys a VM that boots from its own disk, lengthened, with a cloud-init seed, and refuses images that are none."""

from __future__ import annotations

import re
import subprocess

import pytest
import yaml

from lab import boot_guest, deploy
from lab.__main__ import execute
from lab.hosts import CLIENT_IP, SERVICE_IP

MIB = 1 << 20
GROWN_MIB = 160
SEED = "/var/lib/plover/images/demo/seed"
PASSWORD = "canary-of-the-guests-password"
NICS = [{"mac": "52:54:00:70:6c:01", "addresses": [SERVICE_IP]}, {"mac": "52:54:00:70:6c:02", "mtu": 1400, "spoof_check": "mac"}]
CLOUD_INIT = {
    "user_data": {"password": PASSWORD, "chpasswd": {"expire": False}},
    "network_config": f"version: 2\nethernets: {{e: {{addresses: [{SERVICE_IP}/24], gateway4: {CLIENT_IP}}}}}\n",
}


def change_vm(**keys) -> None:
    """Keys of the inventory's VM; ``...`` removes one."""
    inventory = yaml.safe_load(deploy.INVENTORY.read_text())
    vm = inventory["plover"]["vars"]["plover_vms"][0]
    vm.update({key: value for key, value in keys.items() if value is not ...})
    for key in [key for key, value in keys.items() if value is ...]:
        vm.pop(key, None)
    deploy.INVENTORY.write_text(yaml.safe_dump(inventory, sort_keys=False))


def asked(host: str, command: str) -> str:
    done = execute(host, command)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def refused(*options: str) -> str:
    done = deploy.run_playbook(deploy.PLAY, deploy.INVENTORY, *options)
    assert done.returncode, done.stdout[-3000:]
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def booted(fresh_hosts):
    """The inventory, and what the first play printed with --diff and -vvv."""
    image = boot_guest.build().image
    disk = {"path": deploy.DISK_PATH, "source": str(image), "size_mib": GROWN_MIB}
    no_card = {"mac": ..., "addresses": ..., "bridge": ..., "tap": ...}
    change_vm(kernel=..., initrd=..., cmdline=..., **no_card, disks=[disk], cloud_init=CLOUD_INIT, nics=NICS)
    return deploy.play("--diff", "-vvv")[1]


def test_a_packed_image_on_a_host_is_named_and_stays_as_it_is(fresh_hosts):
    place = "/var/lib/plover-images/demo.img"
    change_vm(kernel=..., initrd=..., cmdline=..., disks=[{"path": place}], cloud_init=CLOUD_INIT)
    asked("primary", f"mkdir -p {place.rsplit('/', 1)[0]}; head -c 1M /dev/zero | gzip > {place}; truncate -s 4096 {place}")
    before = asked("primary", f"sha256sum {place}; stat -c %Y {place}")
    said = refused()
    assert f"{place} on primary is gzip, not a raw image; unpack it" in said, said[-3000:]
    assert asked("primary", f"sha256sum {place}; stat -c %Y {place}") == before
    asked("primary", f"rm {place}")


def test_the_guest_boots_by_its_own_boot_loader_and_is_protected(booted):
    deploy.lead("primary", 120)
    deploy.wait_service(120)
    console = asked("primary", "cat /var/log/plover/demo/console.log")
    assert "GRUB boots the guest" in console and f"address {SERVICE_IP}/24" in console
    assert {"ssse3", "sse4_1", "sse4_2", "popcnt", "cx16", "lahf_lm"} <= set(re.search(r"CPU (.*)", console)[1].split())
    for host in ("primary", "secondary"):
        assert int(asked(host, f"stat -c %s {deploy.DISK_PATH}")) == GROWN_MIB * MIB


def test_each_of_its_cards_has_a_tap_in_the_bridge_and_a_filter(booted):
    leader = deploy.wait_protected("primary", 120)["leader"]
    found = deploy.ploverctl(leader, "--vm", "demo", "status")[1]["nics"]
    assert [(card["mac"], card["tap"], card["bridge"], card["filter"]["check"]) for card in found] == [
        ("52:54:00:70:6c:01", "plover0", "br0", "strict"),
        ("52:54:00:70:6c:02", "plover0-1", "br0", "mac"),
    ]
    ports = asked(leader, "ls /sys/class/net/br0/brif")
    assert {"plover0", "plover0-1"} <= set(ports.split())
    assert "table netdev plover_tap_plover0-1" in asked(leader, "nft list tables")


def test_the_seed_is_the_same_on_both_hosts_and_nobody_reads_its_secrets(booted):
    seeds = {asked(host, f"sha256sum < {SEED}; stat -c '%a %U' {SEED}") for host in ("primary", "secondary")}
    assert len(seeds) == 1 and seeds.pop().endswith("600 root")
    assert asked("primary", f"grep -ac {PASSWORD} {SEED}") == "1"
    assert PASSWORD not in booted
    for host in ("primary", "secondary"):
        said = asked(host, "cat /proc/[0-9]*/cmdline; cat /etc/plover/*.json /run/plover/demo/qemu.json; journalctl -o cat")
        assert PASSWORD not in said and "/dev/fdset/3" in said


def test_a_second_run_changes_nothing_and_an_audit_finds_nothing(booted):
    assert deploy.play()[0] == 0
    code, report = deploy.ploverctl("primary", "--vm", "demo", "audit", "--disks")
    assert code == 0 and report["mismatching"] == report["disk_blocks_mismatching"] == 0, report


def test_the_export_leads_to_the_same_settings(booted):
    info = execute("primary", "cat /etc/plover/demo.json").stdout
    assert '"guest_seed": "/var/lib/plover/images/demo/seed"' in info and '"guest_kernel"' not in info
    backup = deploy.LAB / "backup.yml"
    deploy.play("-e", f"plover_backup_file={backup}", playbook="plover.vmft.backup_config")
    (vm,) = yaml.safe_load(backup.read_text())["inventory"]["plover"]["vars"]["plover_vms"]
    assert [card["mac"] for card in vm["nics"]] == [card["mac"] for card in NICS] and "mac" not in vm
    assert vm["cloud_init"] == CLOUD_INIT and "kernel" not in vm and vm["boot"] == "disk"
    assert subprocess.run(["stat", "-c", "%a", str(backup)], capture_output=True, text=True, check=True).stdout.strip() == "600"
