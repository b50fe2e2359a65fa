# SPDX-License-Identifier: GPL-3.0-or-later
"""A database on a disk, on three systemd hosts: `make demo-disk`, and then role disks on the hosts that it leaves."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest
import yaml

from lab import deploy
from lab.__main__ import execute
from lab.hosts import down
from lab.paths import BUILD, ROOT

IMAGE = deploy.DISK_PATH
OUTAGE_MS_MAX = 10_000  # far above any outage on a quiet machine: the figure is printed, and a benchmark judges it
UNIT = r"run-plover\\x2ddisks.mount"


@pytest.fixture(scope="module")
def result():
    try:
        subprocess.run([sys.executable, "-m", "lab.demo_disk"], cwd=ROOT, check=False, timeout=540, env={**os.environ, "KEEP": "1"})
        yield json.loads((BUILD / "demo-disk" / "result.json").read_text())
    finally:
        assert down() == []


def asked(host: str, command: str) -> str:
    done = execute(host, command)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def overlays_mib(host: str) -> int:
    return int(asked(host, "findmnt -bno SIZE /run/plover-disks")) >> 20


def changes(output: str) -> list[str]:
    """Task and host of each change."""
    out, task = [], ""
    for line in output.splitlines():
        task = line[6 : line.index("]")] if line.startswith("TASK [") else task
        out += [f"{task} @ {host}" for host in re.findall(r"^changed: \[(\w+)\]", line)]
    return out


def test_no_acknowledged_commit_is_lost_and_the_database_is_whole(result):
    assert (result["lost"], result["database_checks_ok"], result["reprotected"]) == (0, True, True)
    assert result["acked_commits"] > 300 and 0 < result["outage_ms"] < OUTAGE_MS_MAX


def test_the_disks_of_both_hosts_are_equal(result):
    assert result["disk_blocks_mismatching"] == 0


def test_after_the_failover_the_play_changes_nothing(result):
    assert deploy.play("--diff")[0] == 0


def test_the_overlays_have_a_tmpfs_of_their_own_at_each_boot(result):
    for host in ("primary", "secondary"):  # the primary has lost its power meanwhile
        assert overlays_mib(host) == 256
        assert asked(host, f"systemctl is-enabled {UNIT}") == "enabled"


def test_a_changed_size_is_applied_while_the_overlays_are_in_use(result):
    inventory = yaml.safe_load(deploy.INVENTORY.read_text())
    inventory["plover"]["vars"]["plover_vms"][0]["disk_overlay_mib"] = 320
    deploy.INVENTORY.write_text(yaml.safe_dump(inventory, sort_keys=False))
    deploy.lead("secondary", 90)  # a very busy machine may have seen another failover
    mounted = asked("primary", "findmnt -no MAJ:MIN /run/plover-disks")
    _, output = deploy.play()
    done = {change.split(" @ ")[0].split(" : ")[1] for change in changes(output)}
    assert {"Install the unit of the overlays' tmpfs", "Mount the tmpfs, now and at each boot", "Write the settings"} <= done
    assert not done & {"Create and copy the images", "Install this version", "Write the secrets"}
    assert overlays_mib("primary") == overlays_mib("secondary") == 320
    assert mounted and asked("primary", "findmnt -no MAJ:MIN /run/plover-disks") == mounted
    deploy.wait_protected("secondary", 120)  # the one that follows was restarted, for the settings; the leader was not
    assert deploy.play("--tags", "disks,secrets,witness,vm")[0] == 0


def test_the_role_alone_makes_an_empty_qcow2_image_and_its_target(result, tmp_path, monkeypatch):
    """For a second VM that leads on the other host."""
    image = "/var/lib/plover-images/second.qcow2"
    vms = yaml.safe_load(deploy.INVENTORY.read_text())["plover"]["vars"]["plover_vms"]
    vms.append(
        {
            "name": "second",
            "primary": "secondary",
            "secondary": "primary",
            "disk_overlay_mib": 64,
            "disks": [{"path": image, "format": "qcow2", "size_mib": 48}],
        }
    )
    play = tmp_path / "play.yml"
    play.write_text(
        yaml.safe_dump([{"hosts": "plover_replicas", "gather_facts": False, "roles": ["plover.vmft.disks"], "vars": {"plover_vms": vms}}])
    )
    monkeypatch.setattr(deploy, "PLAY", play)
    _, output = deploy.play()
    assert {change for change in changes(output) if "missing" in change} == {
        "plover.vmft.disks : Create missing empty images on the primary @ secondary",
        "plover.vmft.disks : Create missing target images on the secondary @ primary",
    }
    assert deploy.play()[0] == 0
    for host in ("primary", "secondary"):
        assert json.loads(asked(host, f"qemu-img info --output=json {image}"))["virtual-size"] == 48 << 20
        assert asked(host, f"stat -c %a {image}; ls {image}.*; true") == "600"
        assert overlays_mib(host) == 320 + 64


def test_a_primary_that_lost_its_image_gets_it_from_the_secondary(result):
    deploy.lead("secondary", 90)
    before = asked("secondary", f"stat -c %i,%s,%W {IMAGE}")
    asked("primary", f"systemctl stop plover-replica@demo plover-qemu@demo && rm {IMAGE}")
    _, output = deploy.play()
    assert [change for change in changes(output) if "image" in change or "target" in change] == [
        "plover.vmft.disks : Create missing empty images on the primary @ primary"
    ]
    assert asked("secondary", f"stat -c %i,%s,%W {IMAGE}") == before
    assert asked("primary", f"stat -c %s {IMAGE}") == before.split(",")[1]
    assert deploy.wait_protected("secondary", 60)["role"] == "leader"
    assert int(asked("primary", f"stat -c %b {IMAGE}")) * 512 > 50 << 20, "it was filled again"
