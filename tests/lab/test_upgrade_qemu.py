# SPDX-License-Identifier: GPL-3.0-or-later
"""Play upgrade_qemu: from Debian 12's QEMU to that of its backports, by the packages, while clients write."""

from __future__ import annotations

import json
import shutil

import pytest

from lab import base, deploy
from lab.__main__ import execute
from lab.demo import ended, finish_load, start_load
from lab.hosts import Host
from lab.paths import LAB

pytestmark = pytest.mark.usefixtures("fresh_hosts")
REPLICAS = ("primary", "secondary")
PLAY = "plover.vmft.upgrade_qemu"


def series(host: str) -> str:
    """Of the QEMU that the VM runs on there."""
    version = json.loads(execute(host, "ploverctl status -o json").stdout)["versions"]["qemu"]
    return ".".join(version.split(".")[:2])


def offer_the_newer_one(host: str) -> None:
    shutil.copytree(base.newer_qemu_repo(), Host(host).root / "srv" / "apt-newer", dirs_exist_ok=True)
    execute(host, "echo 'deb [trusted=yes] file:/srv/apt-newer ./' >>/etc/apt/sources.list && apt-get -qq update")


@pytest.fixture(scope="module")
def moved():
    """(what the clients found, what the play said)"""
    deploy.play()
    deploy.lead("primary", 120)
    assert [series(host) for host in REPLICAS] == ["7.2", "7.2"]
    said = deploy.play(playbook=PLAY)[1]
    assert "nothing to do" in said and "go to it" not in said
    for host in REPLICAS:
        offer_the_newer_one(host)
    folder = LAB / "upgrade-qemu"
    folder.mkdir(exist_ok=True)
    load = start_load(folder / "clients.json", "lab.client")
    with ended(load):
        _, said = deploy.play("-e", "plover_prefer_primaries=true", playbook=PLAY)
        return finish_load(load, folder / "clients.json"), said


def test_both_hosts_have_moved_and_no_client_lost_anything(moved):
    clients, said = moved
    print(clients)
    assert [series(host) for host in REPLICAS] == ["10.0", "10.0"]
    assert clients["acked"] > 0 and (clients["lost"], clients["connections_broken"]) == (0, 0)
    assert said.count("the members of demo go to it") == 2
    status = deploy.wait_protected("primary", 120)
    assert (status["leader"], status["versions"]["machine"]) == ("primary", "pc-i440fx-7.2")
    _code, audit = deploy.ploverctl("primary", "audit")
    assert audit["ok"] and audit["mismatching"] + audit["untracked"] == 0


def test_a_second_run_changes_nothing(moved):
    changed, said = deploy.play(playbook=PLAY)
    assert changed == 0 and "nothing to do" in said
    assert deploy.play()[0] == 0


def test_what_a_running_vm_cannot_go_to_is_refused_before_anything_is_changed(moved):
    """An older package, as after a wrong pin of apt."""
    execute(
        "secondary",
        "printf 'Package: *\\nPin: release *\\nPin-Priority: 1\\n\\nPackage: qemu-*\\nPin: version 1:7.*\\n"
        "Pin-Priority: 1001\\n' >/etc/apt/preferences.d/older",
    )
    try:
        with pytest.raises(SystemExit, match="never goes to an older"):
            deploy.play(playbook=PLAY)
    finally:
        execute("secondary", "rm /etc/apt/preferences.d/older")
    assert [series(host) for host in REPLICAS] == ["10.0", "10.0"]
    deploy.wait_protected("primary", 60)
