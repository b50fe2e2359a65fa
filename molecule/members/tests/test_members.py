# SPDX-License-Identifier: GPL-3.0-or-later
"""What the roles runtime, secrets, witness and vm leave on each host, read from the host itself."""

from __future__ import annotations

import json
import time

import pytest

SEATS = {"primary": "replica", "secondary": "replica", "witness": "witness"}
PATIENCE_S = 60


@pytest.fixture
def unit(host):
    return f"plover-{SEATS[host.check_output('hostname')]}@demo"


def eventually(look):
    """The first truthy answer; a daemon that was killed needs a moment."""
    end = time.monotonic() + PATIENCE_S
    while not (found := look()) and time.monotonic() < end:
        time.sleep(0.3)
    return found


def protected(host):
    """As this member says it, with a role of its own in it."""
    done = host.run("ploverctl status -o json")
    return done.rc == 0 and json.loads(done.stdout)["role"] in ("leader", "secondary", "witness")


def test_the_daemon_is_supervised_and_comes_back_after_a_kill(host, unit):
    assert eventually(lambda: protected(host))
    pid = host.check_output(f"systemctl show -P MainPID {unit}")
    assert host.run(f"kill -9 {pid}").rc == 0
    assert eventually(
        lambda: (
            host.run(f"systemctl is-active {unit}").stdout == "active\n"
            and host.check_output(f"systemctl show -P MainPID {unit}") not in ("0", pid)
        )
    )
    assert eventually(lambda: protected(host)), host.run("ploverctl status").stdout
    assert host.service(unit).is_enabled


def test_a_hung_daemon_is_replaced(host, unit):
    assert host.check_output(f"systemctl show -P WatchdogUSec {unit}") == "10s"
    assert host.check_output(f"systemctl show -P NRestarts {unit}") != "0", "by the test before"


def test_the_settings_are_this_member_s_and_for_root_only(host):
    file = host.file("/etc/plover/demo.json")
    settings = json.loads(file.content_string)
    assert (file.user, file.mode, settings["member"]) == ("root", 0o640, host.check_output("hostname"))
    assert {name: member["kind"] for name, member in settings["members"].items()} == SEATS


def test_the_secret_is_for_the_daemon_only_and_every_link_is_proved_with_it(host):
    file = host.file("/etc/plover/demo.secret")
    owner = "plover-witness" if SEATS[host.check_output("hostname")] == "witness" else "root"
    assert (file.user, file.mode) == (owner, 0o600)
    assert len([line for line in file.content_string.splitlines() if line and not line.startswith("#")]) == 1

    def proved():
        return json.loads(host.run("ploverctl status -o json").stdout or "{}").get("authenticated") or {}

    others = set(SEATS) - {host.check_output("hostname")}
    assert eventually(lambda: set(proved()) == others and all(proved().values())), proved()


def test_a_replica_filters_the_frames_of_its_vm_also_after_somebody_flushed_all_rules(host):
    def loaded():
        return host.run("nft list table netdev plover_tap_plover0").rc == 0

    replica = SEATS[host.check_output("hostname")] == "replica"
    assert loaded() is replica
    assert host.run("nft flush ruleset").rc == 0 and not loaded()
    if replica:
        assert eventually(loaded)
        assert json.loads(host.check_output("ploverctl status -o json"))["filter"]["check"] == "strict"


def test_only_replicas_carry_a_guest(host):
    replica = SEATS[host.check_output("hostname")] == "replica"
    assert host.exists("qemu-system-x86_64") is replica
    assert host.file("/var/lib/plover/images/demo/kernel").exists is replica
    assert host.service("plover-qemu@demo").is_running is replica
