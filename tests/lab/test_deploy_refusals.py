# SPDX-License-Identifier: GPL-3.0-or-later
"""The play on fresh hosts: what cannot work is refused before anything is changed, and --check changes nothing."""
from __future__ import annotations

import json
import re

import pytest
import yaml

from lab import deploy
from lab.__main__ import execute
from lab.hosts import HOSTS

pytestmark = pytest.mark.usefixtures("fresh_hosts")
IMAGE = {"path": "/srv/a.img", "size_mib": 1}
LISTEN = ("nohup python3 -c 'import socket, time; s = socket.create_server((\"0.0.0.0\", 7420)); time.sleep(60)' "
          ">/dev/null 2>&1 & echo $!")
# As QEMU locks an image that it writes to (F_OFD_SETLK).
USE = ("nohup python3 -c 'import fcntl, struct, time; f = open(\"{}\", \"r+b\"); "
       "fcntl.fcntl(f, 37, struct.pack(\"hhqqi4x\", fcntl.F_RDLCK, 0, 100, 2, 0)); time.sleep(60)' "
       ">/dev/null 2>&1 & echo $!")
OTHER_QEMU = ("printf '#!/bin/sh\\necho QEMU emulator version {}\\n' > /usr/local/bin/qemu-system-x86_64; "
              "chmod +x /usr/local/bin/qemu-system-x86_64")


def traces(host: str) -> str:
    return execute(host, "ls -d /etc/plover /opt/plover /var/lib/plover /etc/systemd/system/plover* /etc/qemu-if* "
                         "/etc/systemd/system/run-plover* /var/lib/plover-images 2>/dev/null; "
                         "command -v qemu-system-x86_64").stdout


def refused(*options: str) -> str:
    with pytest.raises(SystemExit) as error:
        deploy.play(*options)
    assert all(traces(host) == "" or "qemu" in traces(host) and "/etc" not in traces(host) for host in HOSTS)
    return re.sub(r"\s+", " ", str(error.value))


def vm(**changes) -> str:
    out = yaml.safe_load(deploy.INVENTORY.read_text())["plover"]["vars"]["plover_vms"][0]
    out.update(changes)
    return json.dumps({"plover_vms": [{k: v for k, v in out.items() if v is not None}]})


@pytest.mark.parametrize(("changes", "says"), [
    ({"memory_mib": 999_999}, ["memory_mib", "make them smaller"]),
    ({"disks": [{"path": "/srv/a.img"}]}, ["disks[0].path of demo: /srv/a.img is missing on primary", "give size_mib"]),
    ({"disks": [{"path": "/dev/no-such", "size_mib": 1}]}, ["/dev/no-such is missing on primary; make the device"]),
    ({"disks": [IMAGE], "disk_overlay_mib": 999_999}, ["disk_overlay_mib: the overlays' 999999 MiB", "do not fit"]),
])
def test_a_vm_that_cannot_work_is_refused_before_anything_is_changed(changes, says):
    said = refused("-e", vm(**changes))
    assert [phrase for phrase in says if phrase not in said] == []


def test_a_bridge_whose_card_does_not_exist_is_refused():
    said = refused("-e", "plover_bridge_member=nosuch0")
    assert "plover_bridge_member: there is no card nosuch0, and no bridge br0 either" in said


def test_a_replication_address_of_another_host_is_refused():
    said = refused("-e", json.dumps({"plover_replication_address": "192.168.78.9{{ groups.all.index(inventory_hostname)}}"}))
    assert "primary: plover_replication_address: 192.168.78.90 is on no card" in said


def test_a_port_in_use_is_refused_and_its_owner_named():
    pid = execute("secondary", LISTEN).stdout.strip()
    try:
        said = refused()
    finally:
        execute("secondary", f"kill {pid}")
    assert f"secondary: port: 7420 is in use here by process {pid} (python3" in said


def test_unequal_qemu_versions_are_refused():
    try:
        for host, version in (("primary", "7.2.22"), ("secondary", "8.2.0")):
            execute(host, OTHER_QEMU.format(version))
        said = refused()
    finally:
        for host in ("primary", "secondary"):
            execute(host, "rm /usr/local/bin/qemu-system-x86_64")
    assert "demo: QEMU is" in said and "7.2.22" in said and "8.2.0" in said and "install one version on both" in said


@pytest.fixture
def images():
    """Gone from the replicas after the test."""
    yield
    for host in ("primary", "secondary"):
        execute(host, f"rm -f {IMAGE['path']}")


def test_images_of_unequal_lengths_are_refused(images):
    for host, length in (("primary", 1_048_576), ("secondary", 1_049_088)):
        execute(host, f"truncate -s {length} {IMAGE['path']}")
    said = refused("-e", vm(disks=[IMAGE]))
    assert "/srv/a.img has 1049088 bytes on secondary, but 1048576 on primary; both need one length" in said


def test_an_image_that_is_no_image_is_refused(images):
    execute("secondary", f"truncate -s 1000 {IMAGE['path']}")
    said = refused("-e", vm(disks=[IMAGE]))
    assert "/srv/a.img on secondary has 1000 bytes, which is no whole number of 512-byte sectors" in said


def test_an_image_in_use_is_refused_and_its_user_named(images):
    execute("primary", f"truncate -s 1M {IMAGE['path']}")
    pid = execute("primary", USE.format(IMAGE["path"])).stdout.strip()
    try:
        said = refused("-e", vm(disks=[IMAGE]))
    finally:
        execute("primary", f"kill {pid}")
    assert f"/srv/a.img is in use on primary by process {pid} (python3" in said


@pytest.mark.parametrize("disks", [{}, {"disks": [IMAGE, {"path": "/var/lib/plover-images/b.img", "source": "/etc/hosts"}]}])
def test_check_mode_on_fresh_hosts_ends_well_and_changes_nothing(disks):
    changed, _ = deploy.play("--check", "--diff", "-e", vm(**disks))
    assert changed > 0, "it must say what it would do"
    assert [traces(host) for host in HOSTS] == ["", "", ""]
