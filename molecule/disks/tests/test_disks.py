# SPDX-License-Identifier: GPL-3.0-or-later
"""What a VM with a disk needs on each host, read from the host itself, and that its copies are equal."""

from __future__ import annotations

import json

import pytest

REPLICAS = ("primary", "secondary")
IMAGE, OVERLAYS = "/var/lib/plover-images/demo.img", "/run/plover-disks"


def status_of(host) -> dict:
    return json.loads(host.run("ploverctl status -o json").stdout)


@pytest.fixture
def replica(host):
    name = host.check_output("hostname")
    if name not in REPLICAS:
        pytest.skip("for the replicas")
    return name


def test_every_member_says_protected(host):
    assert status_of(host)["service"] == "protected"


def test_the_image_is_there_and_of_the_length_that_the_vm_was_given(host, replica):
    disks = json.loads(host.file("/etc/plover/demo.json").content_string)["disks"]
    assert [disk["path"] for disk in disks] == [IMAGE]
    assert host.file(IMAGE).size == 384 << 20


def test_the_overlays_are_on_a_tmpfs_of_their_own_and_only_a_secondary_has_some(host, replica):
    assert host.check_output(f"findmnt -no FSTYPE {OVERLAYS}") == "tmpfs"
    there = sorted(host.run(f"ls {OVERLAYS}/demo.disks").stdout.split())
    leads = status_of(host)["role"] == "leader"
    assert there == ([] if leads else ["active0.qcow2", "hidden0.qcow2"])


def test_the_disks_have_no_port_of_their_own(host, replica):
    assert host.check_output("ss -Htln sport = :7421") == ""
    assert "qemu-system" not in host.check_output("ss -Htlnp")
    assert status_of(host)["disk_streams"] == {"open": 1, "refused": 0, "last": ""}


def test_memory_and_disks_of_both_hosts_are_equal(host, replica):
    if status_of(host)["role"] != "leader":
        pytest.skip("asked of the leader")
    done = host.run("ploverctl audit --disks -o json")
    report = json.loads(done.stdout)
    assert (done.rc, report["mismatching"], report["untracked"], report["disk_blocks_mismatching"]) == (0, 0, 0, 0), report
    assert report["disk_blocks"] == 384 * 16


def test_the_program_that_makes_overlays_is_there(host, replica):
    assert host.exists("qemu-img")
