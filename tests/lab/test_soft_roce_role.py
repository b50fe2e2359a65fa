# SPDX-License-Identifier: GPL-3.0-or-later
"""Role ofed's stack soft-roce on a host whose kernel has no rdma_rxe: kmod and `rdma` are stand-ins that write down what
they are asked, so this tests the tasks and the unit. The device itself: tests/rdma/test_soft_roce.py.
"""

from __future__ import annotations

import pytest

from lab import deploy
from lab.__main__ import execute

pytestmark = pytest.mark.usefixtures("fresh_hosts")
PLAYBOOK = """
- hosts: witness
  gather_facts: false
  vars: {plover_rdma_stack: soft-roce, plover_rdma_load_modules: false}
  roles: [plover.vmft.ofed]
"""
STANDINS = {"modinfo": "echo /lib/modules/$3.ko", "modprobe": 'echo "$*" >>/var/log/modprobe', "rdma": 'echo "$*" >>/var/log/rdma'}
UNIT = "/etc/systemd/system/plover-rxe.service"
MADE = "link add rxe0 type rxe netdev ft0"


def witness(command: str) -> str:
    return execute("witness", command).stdout.strip()


@pytest.fixture
def play(tmp_path, monkeypatch):
    (tmp_path / "play.yml").write_text(PLAYBOOK)
    monkeypatch.setattr(deploy, "PLAY", tmp_path / "play.yml")
    for name, does in STANDINS.items():
        path = f"/usr/local/sbin/{name}"
        assert execute("witness", f"cat >{path} <<'END'\n#!/bin/sh\n{does}\nEND\nchmod 755 {path}").returncode == 0
    return deploy.play


def test_a_check_says_what_would_change_and_changes_nothing(play):
    changed, _ = play("--check", "--diff")
    assert changed >= 3
    assert witness(f"ls {UNIT} /usr/local/sbin/plover-rxe /etc/modules-load.d/plover-rdma.conf /var/log/rdma") == ""


def test_the_device_is_made_now_and_at_each_boot(play):
    _, said = play()
    assert "ib_uverbs, rdma_ucm, rdma_rxe are not loaded: there is no RDMA here" in " ".join(said.split())
    assert witness("grep -v '#' /etc/modules-load.d/plover-rdma.conf").split() == ["ib_uverbs", "rdma_ucm", "rdma_rxe"]
    assert witness("systemctl is-enabled plover-rxe; systemctl is-active plover-rxe").split() == ["enabled", "active"]
    # Twice, by the role and by the unit's start: a stand-in makes no device that the second would find.
    assert witness("cat /var/log/rdma").split("\n") == [MADE, MADE]
    assert witness(f"systemd-analyze verify {UNIT}; echo $?") == "0"


def test_the_unit_makes_it_when_it_starts(play):
    witness("systemctl stop plover-rxe; rm /var/log/rdma; systemctl start plover-rxe")
    assert witness("cat /var/log/rdma") == MADE


def test_only_the_missing_device_is_made_again(play):
    _, said = play()
    assert [line for line in said.splitlines() if line.startswith("changed:")] == ["changed: [witness]"]
    assert "TASK [plover.vmft.ofed : Create the device now]" in said


def test_modules_that_are_built_in_are_not_loaded(play):
    witness("printf '#!/bin/sh\\necho \"(builtin)\"\\n' >/usr/local/sbin/modinfo; rm /var/log/modprobe")
    for load in ("true", "false"):
        _, said = play("-e", f'{{"plover_rdma_load_modules": {load}}}')
        assert "there is no RDMA here" not in " ".join(said.split())
    assert "ib_uverbs" not in witness("cat /var/log/modprobe"), "only the device's own is asked for, by plover-rxe"


def test_an_uninstall_takes_away_the_unit_the_script_and_the_list_of_modules(play, tmp_path):
    uninstall = PLAYBOOK.replace(
        "roles: [plover.vmft.ofed]", "tasks:\n    - ansible.builtin.include_role: {name: plover.vmft.ofed, tasks_from: uninstall}"
    )
    (tmp_path / "play.yml").write_text(uninstall)
    changed, _ = play("--check")
    assert changed >= 2 and witness(f"ls {UNIT}") == UNIT
    assert play()[0] >= 2
    assert witness(f"ls {UNIT} /usr/local/sbin/plover-rxe /etc/modules-load.d/plover-rdma.conf 2>/dev/null") == ""
    assert witness("systemctl list-unit-files plover-rxe.service --no-legend") == ""
    assert play()[0] == 0
