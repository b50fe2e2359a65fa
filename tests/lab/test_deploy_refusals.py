# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole play on fresh hosts: images that cannot work are refused before anything is changed; --check changes nothing.
The other refusals: test_precheck_inventory.py, test_precheck_hosts.py."""

from __future__ import annotations

import json
import re

import pytest
import yaml
from shared import traces

from lab import deploy
from lab.__main__ import execute
from lab.hosts import HOSTS

pytestmark = pytest.mark.usefixtures("untouched_hosts")
IMAGE = {"path": "/srv/a.img", "size_mib": 1}
# As QEMU locks an image that it writes to (F_OFD_SETLK).
USE = (
    'nohup python3 -c \'import fcntl, struct, time; f = open("{}", "r+b"); '
    'fcntl.fcntl(f, 37, struct.pack("hhqqi4x", fcntl.F_RDLCK, 0, 100, 2, 0)); time.sleep(60)\' '
    ">/dev/null 2>&1 & echo $!"
)


def refused(*options: str) -> str:
    with pytest.raises(SystemExit) as error:
        deploy.play(*options)
    assert [traces(host) for host in HOSTS] == ["", "", ""]
    return re.sub(r"\s+", " ", str(error.value))


def vm(**changes) -> str:
    out = yaml.safe_load(deploy.INVENTORY.read_text())["plover"]["vars"]["plover_vms"][0]
    out.update(changes)
    return json.dumps({"plover_vms": [{k: v for k, v in out.items() if v is not None}]})


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"disks": [{"path": "/srv/a.img"}]}, ["disks[0].path of demo: /srv/a.img is missing on primary", "give size_mib"]),
        ({"disks": [{"path": "/dev/no-such", "size_mib": 1}]}, ["/dev/no-such is missing on primary; make the device"]),
        ({"disks": [IMAGE], "disk_overlay_mib": 999_999}, ["disk_overlay_mib: the overlays' 999999 MiB", "do not fit"]),
    ],
)
def test_a_vm_that_cannot_work_is_refused_before_anything_is_changed(changes, says):
    said = refused("-e", vm(**changes))
    assert [phrase for phrase in says if phrase not in said] == []


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


def test_check_mode_on_fresh_hosts_ends_well_and_changes_nothing():
    """With disks; without any: molecule/default."""
    disks = [IMAGE, {"path": "/var/lib/plover-images/b.img", "source": "/etc/hosts"}]
    changed, _ = deploy.play("--check", "--diff", "-e", vm(disks=disks))
    assert changed > 0, "it must say what it would do"
    assert [traces(host) for host in HOSTS] == ["", "", ""]
