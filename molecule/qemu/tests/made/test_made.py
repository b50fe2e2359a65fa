# SPDX-License-Identifier: GPL-3.0-or-later
"""What roles packages, bridge, qemu, disks, native and ofed leave on hosts without a package source, in use."""

from __future__ import annotations

import json

import pytest

REPO = "/var/lib/plover-packages"


@pytest.fixture
def name(host) -> str:
    return host.check_output("hostname")


@pytest.fixture
def replica(host, name) -> str:
    if name == "witness":
        pytest.skip("for the replicas")
    return name


def scripted(host, script: str) -> str:
    done = host.run("sh -ec %s", script)
    assert done.rc == 0, done.stdout + done.stderr
    return done.stdout.strip()


def test_packages_come_from_the_folder_or_the_mirror_and_from_nowhere_else(host, name):
    package = "rdma-core" if name == "witness" else "qemu-system-x86"
    source = "file:/srv/apt" if name == "secondary" else f"file:{REPO}"
    said = host.check_output(f"apt-cache policy {package}")
    assert host.package(package).is_installed
    assert [line.split()[1] for line in said.splitlines() if line.lstrip().startswith("500 ")] == [source]
    assert host.file(REPO).exists == (name != "secondary")


def test_qemu_runs_as_its_user(host, replica):
    said = host.check_output("runuser -u plover-qemu -- qemu-system-x86_64 --version")
    assert said.startswith("QEMU emulator version")
    assert "kvm" in host.user("plover-qemu").groups and host.user("plover-qemu").shell == "/usr/sbin/nologin"


def test_the_scripts_bring_the_tap_into_the_bridge_and_out_of_it(host, replica):
    state = "ip -j -d link show dev lab-tap"
    scripted(host, "ip tuntap add lab-tap mode tap; /etc/qemu-ifup lab-tap")
    try:
        up = json.loads(host.check_output(state))[0]
        assert up["master"] == "br0" and "UP" in up["flags"]
        scripted(host, "/etc/qemu-ifdown lab-tap")
        down = json.loads(host.check_output(state))[0]
        assert "master" not in down and "UP" not in down["flags"]
    finally:
        host.run("ip link del lab-tap")


def test_a_vms_own_bridge_is_taken_where_there_are_several(host, replica):
    scripted(host, "ip link add lab-br type bridge; ip tuntap add lab-tap mode tap")
    try:
        scripted(host, "PLOVER_BRIDGE=lab-br /etc/qemu-ifup lab-tap")
        assert json.loads(host.check_output("ip -j link show dev lab-tap"))[0]["master"] == "lab-br"
    finally:
        host.run("ip link del lab-tap; ip link del lab-br")


def test_a_bridge_that_is_missing_is_named_with_the_remedy(host, replica):
    done = host.run("PLOVER_BRIDGE=nosuch0 /etc/qemu-ifup lo")
    assert done.rc == 1 and done.stderr.strip() == "plover_bridge_name: bridge nosuch0 is missing; role bridge makes it"


def test_the_limits_hold_in_qemus_unit(host, replica):
    """In a process that systemd starts under the unit's name; what may be locked this machine may cap."""
    scripted(host, "systemd-run --quiet --collect --unit=plover-qemu@probe --uid=plover-qemu sleep 60")
    try:
        limits = scripted(host, "cat /proc/$(systemctl show -P MainPID plover-qemu@probe)/limits")
    finally:
        host.run("systemctl stop plover-qemu@probe")
    words = {line[:25].strip(): line[25:].split() for line in limits.splitlines()}
    most = host.check_output("grep '^Max locked' /proc/1/limits").split()[4]
    assert words["Max open files"][:2] == ["8192", "8192"]
    assert words["Max locked memory"][1] in ("unlimited", most)


def test_the_native_library_hashes_pages(host, replica):
    folder = host.check_output("dirname /opt/plover/*/native/plover-hash")
    pages = scripted(host, f"head -c 8192 /dev/zero >/tmp/lab-pages; {folder}/plover-hash /tmp/lab-pages; rm /tmp/lab-pages")
    assert len(pages.split()) == 2 and len(set(pages.split())) == 1
    scripted(host, f"python3 -c 'import ctypes; ctypes.CDLL(\"{folder}/libplover_native.so\")'")


def test_disks_have_their_images_and_the_overlays_a_tmpfs(host, replica):
    assert host.file("/var/lib/lab-images/demo.img").size == 8 << 20
    assert host.check_output("findmnt -no FSTYPE,SIZE /run/plover-disks").split() == ["tmpfs", "16M"]
