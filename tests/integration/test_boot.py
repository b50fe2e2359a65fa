# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest that boots by its own boot loader: from its disk or a CD by SeaBIOS, with a cloud-init seed, through syncvms and failover."""

from __future__ import annotations

import hashlib
import importlib.util
import os

import pytest
from harness import CLIENT_IP, GUEST_IP, REPLICAS, ROOT, connect

from lab import boot_guest

USER_DATA = b"#cloud-config\npassword: only-for-the-guest\n"
SEED = {
    "meta-data": b"instance-id: plover-test\n",
    "network-config": b"version: 2\nethernets: {e: {addresses: [%s/24], gateway4: %s}}\n" % (GUEST_IP.encode(), CLIENT_IP.encode()),
    "user-data": USER_DATA,
}
CURRENT_CPU = "qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt"  # as the play writes it
NO_KERNEL = {"guest_kernel": "", "guest_initrd": "", "guest_cmdline": ""}


def nocloud():
    spec = importlib.util.spec_from_file_location("nocloud", ROOT / "plugins/module_utils/_ansible/nocloud.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def boot_group(new_group, tmp_path):
    """A function that makes a protected VM that boots from its disk; the secondary's image is empty at first."""

    def make(bus="virtio-blk", partition="/dev/vda1", **settings):
        guest = boot_guest.build(partition)
        images = {member: tmp_path / f"{member}.img" for member in REPLICAS}
        guest.copy_to(images["primary"])
        with open(images["secondary"], "wb") as file:
            os.truncate(file.fileno(), guest.image.stat().st_size)
        own = {member: {"disks": [{"path": str(path), "bus": bus}]} for member, path in images.items()}
        group = new_group(own=own, **{**NO_KERNEL, "disks": own["primary"]["disks"], **settings})
        group.start()
        group.wait("primary", seconds=120, service="protected")
        return group

    return make


def console(group):
    """What both VMs have said: on a busy machine either may have booted."""
    return "".join((group.log_folder(member) / "console.log").read_text(errors="replace") for member in REPLICAS)


def equal(group):
    """An audit of memory and disks, in which nothing may differ unnoticed."""
    report = group.audit(disks=True)
    assert report["mismatching"] == report["untracked"] == report["disk_blocks_mismatching"] == 0, report
    return report


def lives_through_a_failover(group):
    client = connect(240)
    assert client.ask("SET", "before", "1") == b"+OK"
    for number in range(20):
        assert client.ask("SET", f"key{number}", "x" * 5000) == b"+OK"
    equal(group)
    leader = group.settled()
    group.power_off(leader)
    assert client.ask("GET", "before") == b"1"  # by the same connection
    assert client.ask("SET", "after", "2") == b"+OK"
    group.start(leader)
    assert group.settled(seconds=120) != leader
    equal(group)
    assert client.ask("GET", "after") == b"2"


def test_a_guest_boots_from_its_disk_and_outlives_its_host(boot_group):
    group = boot_group()
    lives_through_a_failover(group)
    assert "GRUB boots the guest" in console(group) and "guest: seed" not in console(group)
    client = connect()  # and once more, with the copy made since
    group.power_off(group.settled())
    assert client.ask("GET", "after") == b"2"


def test_a_guest_boots_from_a_virtio_scsi_disk_with_a_source_of_random_numbers(boot_group):
    group = boot_group(bus="virtio-scsi", partition="/dev/sda1", guest_rng=True)
    lives_through_a_failover(group)
    assert "guest: random numbers by virtio" in console(group)


def test_a_guest_boots_from_a_cd_and_has_no_disk(new_group):
    group = new_group(**NO_KERNEL, guest_cdrom=str(boot_guest.build_cd()), guest_cpu=CURRENT_CPU)
    group.start()
    group.wait("primary", seconds=120, service="protected")
    client = connect(240)
    assert client.ask("SET", "before", "1") == b"+OK"
    report = group.audit()
    assert report["mismatching"] == report["untracked"] == 0, report
    leader = group.settled()
    group.power_off(leader)
    assert client.ask("GET", "before") == b"1"
    group.start(leader)
    assert group.settled(seconds=120) != leader
    report = group.audit()
    assert report["mismatching"] == report["untracked"] == 0, report
    assert "GRUB boots the guest" in console(group)


def test_the_guest_reads_its_cloud_init_seed_and_its_cd(boot_group, tmp_path):
    made = nocloud()
    seed, cdrom = tmp_path / "seed", tmp_path / "cd.iso"
    seed.write_bytes(made.seed(SEED))
    seed.chmod(0o600)
    cdrom.write_bytes(made.seed({"user-data": b"on a CD"}).replace(b"cidata", b"other "))
    group = boot_group(guest_seed=str(seed), guest_cdrom=str(cdrom))
    lives_through_a_failover(group)
    told = console(group)
    assert f"address {GUEST_IP}/24, user-data {hashlib.sha256(USER_DATA).hexdigest()}" in told, told
    assert "guest: CD says on a CD" in told, told
    assert seed.read_bytes() == made.seed(SEED)
