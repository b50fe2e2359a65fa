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
LISTEN = ("nohup python3 -c 'import socket, time; s = socket.create_server((\"0.0.0.0\", 7420)); time.sleep(60)' "
          ">/dev/null 2>&1 & echo $!")
OTHER_QEMU = ("printf '#!/bin/sh\\necho QEMU emulator version {}\\n' > /usr/local/bin/qemu-system-x86_64; "
              "chmod +x /usr/local/bin/qemu-system-x86_64")


def traces(host: str) -> str:
    return execute(host, "ls -d /etc/plover /opt/plover /var/lib/plover /etc/systemd/system/plover* /etc/qemu-if* "
                         "2>/dev/null; command -v qemu-system-x86_64").stdout


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
    ({"kernel": "/no/such/vmlinuz"}, ["plover_vms[0].kernel", "/no/such/vmlinuz is not a file on this machine"]),
    ({"initrd": "/no/such/initrd"}, ["plover_vms[0].initrd", "give the path of the image"]),
    ({"secondary": "primary"}, ["primary, secondary and witness must be three different hosts"]),
    ({"witness": "nowhere"}, ["host nowhere is not in the inventory"]),
    ({"cluster_id": "me"}, ["plover_vms[0].cluster_id", "uuidgen"]),
    ({"mac": "01:00:5e:00:00:01"}, ["plover_vms[0].mac", "unicast"]),
    ({"accel": "hvf"}, ["plover_vms[0].accel", "kvm or tcg"]),
    ({"memroy_mib": 512}, ["plover_vms[0].memroy_mib", "is not known"]),
    ({"mac": None}, ["plover_vms[0].mac", "is missing"]),
    ({"memory_mib": 9_999_999}, ["memory_mib", "make them smaller"]),
])
def test_a_vm_that_cannot_work_is_refused_before_anything_is_changed(changes, says):
    said = refused("-e", vm(**changes))
    assert [phrase for phrase in says if phrase not in said] == []


def test_a_bridge_whose_card_does_not_exist_is_refused():
    said = refused("-e", "plover_bridge_member=nosuch0")
    assert "plover_bridge_member: there is no card nosuch0, and no bridge br0 either" in said


def test_a_replication_address_of_another_host_is_refused():
    said = refused("-e", "plover_replication_address=192.168.78.99")
    assert "plover_replication_address: 192.168.78.99 is on no card" in said


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


def test_check_mode_on_fresh_hosts_ends_well_and_changes_nothing():
    changed, _ = deploy.play("--check", "--diff")
    assert changed > 0, "it must say what it would do"
    assert [traces(host) for host in HOSTS] == ["", "", ""]
