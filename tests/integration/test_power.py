# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests that power themselves off, and start again, on two real QEMUs."""

from __future__ import annotations

import contextlib
import signal
import time

import pytest
from harness import CLIENT_IP, GUEST_IP, REPLICAS, Redis, connect, limit
from test_disks import compared
from test_main_job import lost, write

from lab.guest_image import CMDLINE

POWER = CMDLINE.format(ip=GUEST_IP, gw=CLIENT_IP) + " plover.power"


@pytest.fixture
def group(new_group):
    made = new_group(guest_cmdline=POWER)
    made.start()
    made.wait("primary", service="protected")
    return made


def goes_off(client) -> None:
    """The guest is told by a key; its answer may not come any more."""
    client.sock.settimeout(5.0)
    with contextlib.suppress(OSError):
        client.ask("SET", "power", "off")


def wait_off(group, *members: str, seconds: float = 20.0) -> None:
    end = time.monotonic() + limit(seconds)
    while not all(group.status(member).get("service") == "off" for member in members):
        assert time.monotonic() < end, group.story()
        time.sleep(0.05)


def starts(group, member: str) -> None:
    """The leader may still be at its last syncvm: until that is over it refuses."""
    end = time.monotonic() + limit(20.0)
    while not (answer := group.ctl(member, "start"))["ok"]:
        assert time.monotonic() < end, (answer, group.story())
        time.sleep(0.2)


def test_a_guest_that_powers_itself_off_is_off_everywhere_and_starts_again(group):
    client = connect()
    assert client.ask("SET", "k", "v") == b"+OK"
    goes_off(client)
    wait_off(group, *REPLICAS, "witness")
    time.sleep(3.0)  # nobody takes over, nothing starts
    wait_off(group, *REPLICAS, "witness", seconds=0.1)
    for member in REPLICAS:
        assert [entry for entry in group.log(member).splitlines() if "failover" in entry] == [], group.story()
        assert "Invariant" not in group.log(member)
    assert not group.ctl("primary", "cold-start-price").get("error")
    starts(group, "secondary")
    group.wait("secondary", seconds=60, service="protected")
    client = connect()
    assert client.ask("GET", "k") == b"$-1"  # booted afresh; this guest has no disk
    assert client.ask("SET", "again", "1") == b"+OK"
    assert group.audit()["mismatching"] == 0


def test_a_guest_that_heeds_the_power_button_shuts_down(group):
    """The button is pressed on the leader's VM alone: the other one learns of it by syncvms."""
    client = connect()
    assert client.ask("SET", "k", "v") == b"+OK"
    assert "this host does not lead; ask primary" in str(group.ctl("secondary", "shutdown"))
    assert group.ctl("primary", "shutdown")["ok"]
    wait_off(group, *REPLICAS, "witness", seconds=30)
    assert "failover" not in group.log("secondary")
    starts(group, "primary")
    group.wait("primary", seconds=60, service="protected")
    assert connect().ask("SET", "again", "1") == b"+OK"


def test_the_leader_dies_while_its_guest_powers_off(group):
    """Whatever the moment, the VM ends off, or goes on at the other host until its guest powers it off there."""
    goes_off(connect())
    group.wait_for_log("primary", "the guest has powered itself off", seconds=20)
    group.power_off("primary")
    wait_off(group, "secondary", seconds=40)


def test_a_reset_by_the_operator_keeps_the_vm_protected(group):
    client = connect()
    assert client.ask("SET", "k", "v") == b"+OK"
    assert group.ctl("primary", "reset")["ok"]
    end = time.monotonic() + limit(60.0)
    while connect().ask("GET", "k") != b"$-1":
        assert time.monotonic() < end, group.story()
        time.sleep(0.2)
    group.wait("primary", service="protected")
    assert group.audit()["mismatching"] == 0
    assert "refused: the VM is not off" in str(group.ctl("primary", "start"))


@pytest.mark.parametrize("where", REPLICAS)
def test_all_that_the_guest_wrote_is_on_both_hosts_disks(disk_group, where):
    group = disk_group(more_cmdline=" plover.power")
    client, acked = connect(), {}
    for n in range(200):
        write(client, acked, f"k{n}", "x" * 500)
    goes_off(client)
    wait_off(group, *REPLICAS, "witness", seconds=40)
    starts(group, where)
    group.wait(where, seconds=120, service="protected")
    client = connect()
    assert lost(client, acked) == []
    write(client, acked, "after", "y")
    assert compared(group) == (0, 0, 0)


PATIENCE_S = 150.0  # on a busy machine, for two emulated guests that boot beside each other


def tells(client, what: str) -> None:
    """The guest does it within 0.2 s; its answer may not come any more."""
    client.sock.settimeout(5.0)
    with contextlib.suppress(OSError):
        client.ask("SET", "power", what)


def serves_anew(group, seconds: float = PATIENCE_S) -> None:
    """The guest has booted again: what it had in memory is gone."""
    end = time.monotonic() + limit(seconds)
    while True:
        with contextlib.suppress(OSError):
            if Redis(2.0).ask("GET", "k") == b"$-1":
                return
        assert time.monotonic() < end, group.story()
        time.sleep(0.2)


PANICS = {"guest_cmdline": POWER + " panic=0"}  # such a guest stands still until somebody resets it


@pytest.mark.parametrize(
    "what, settings, says",
    [("off", {"on_poweroff": "restart"}, "powered itself off"), ("panic", {"on_crash": "restart"}, "has panicked")],
    ids=["poweroff", "crash"],
)
def test_a_guest_that_ends_boots_again_and_is_protected(new_group, what, settings, says):
    group = new_group(**PANICS, **settings)
    group.start()
    group.wait("primary", service="protected")
    view = group.status("primary")["view"]
    client = connect(PATIENCE_S)
    assert client.ask("SET", "k", "v") == b"+OK"
    tells(client, what)
    began = time.monotonic()
    serves_anew(group)
    print(f"{what}: serves again after {time.monotonic() - began:.1f} s")
    group.wait("primary", seconds=60, service="protected")
    status = group.status("primary")
    assert status["view"] == view and status["guest"]["panicked_s"] is None, group.story()
    assert says in group.log("primary") and "Invariant" not in group.log("primary") + group.log("secondary")
    assert group.audit()["mismatching"] == 0
    client = connect(PATIENCE_S)
    assert client.ask("SET", "after", "x") == b"+OK"
    group.power_off("primary")
    assert connect(PATIENCE_S).ask("GET", "after") == b"x"


def test_a_leader_dies_with_a_guest_that_has_panicked(new_group):
    """The guest that the secondary has loaded does not panic again, but is known to have; so it is by a daemon that starts anew."""
    group = new_group(**PANICS, on_crash="keep")
    group.start()
    group.wait("primary", service="protected")
    client = connect(PATIENCE_S)
    assert client.ask("SET", "k", "v") == b"+OK"
    tells(client, "panic")
    group.wait_for_log("primary", "the guest has panicked", seconds=20)
    time.sleep(3.0)
    status = group.status("primary")
    assert status["service"] == "protected" and "on_crash is keep" in status["sentence"] and status["guest"]["panicked_s"] > 2
    group.power_off("secondary")
    group.wait("primary", service="degraded")
    group.daemons["primary"].send_signal(signal.SIGKILL)
    group.daemons.pop("primary").wait()
    group.start("primary", "secondary")
    group.wait("primary", service="protected")
    assert group.status("primary")["guest"]["panicked_s"] is not None, group.story()  # the daemon has adopted its QEMU
    group.power_off("primary")
    group.wait("secondary", service="degraded")
    assert group.status("secondary")["guest"]["panicked_s"] is not None, group.story()
    assert group.ctl("secondary", "reset")["ok"]
    serves_anew(group)
    assert group.status("secondary")["guest"]["panicked_s"] is None


def test_a_guest_that_panics_is_off_everywhere_and_starts_again(new_group):
    group = new_group(**PANICS, on_crash="stop")
    group.start()
    group.wait("primary", service="protected")
    tells(connect(PATIENCE_S), "panic")
    wait_off(group, *REPLICAS, "witness")
    assert "failover" not in group.log("secondary") and "on_crash is stop" in group.log("primary")
    starts(group, "secondary")
    group.wait("secondary", seconds=60, service="protected")
    assert connect(PATIENCE_S).ask("SET", "again", "1") == b"+OK"
