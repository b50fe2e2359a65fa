# SPDX-License-Identifier: GPL-3.0-or-later
"""What plover-rxe.service runs (role ofed), on a real kernel with rdma_rxe: makes the device once, and refuses clearly."""

from __future__ import annotations

import json

import pytest

from .conftest import ENV

SCRIPT = "/plover/roles/ofed/files/plover-rxe"


@pytest.fixture
def host(guests):
    """A guest whose device is rxe0 on eth0 again after the test."""
    guest = guests["witness"]
    yield guest
    for name in devices(guest):
        guest.run("rdma", "link", "delete", name)
    guest.run("rdma", "link", "add", "rxe0", "type", "rxe", "netdev", "eth0")


def devices(host) -> list[str]:
    return host.run("busybox", "ls", "/sys/class/infiniband", check=False)["out"].split()


def index(host) -> str:
    """The kernel's number of the device, another one each time that it is made."""
    return host.run("rdma", "dev", "show", "rxe0")["out"].split(":")[0]


def make(host, *words: str) -> tuple[int, str]:
    done = host.run("busybox", "sh", SCRIPT, *words, check=False)
    return done["rc"], (done["out"] + done["err"]).strip()


def test_a_device_is_made_and_then_left_alone(host):
    host.run("rdma", "link", "delete", "rxe0")
    assert devices(host) == []
    assert make(host, "rxe0", "eth0") == (0, "rxe0 made on eth0")
    number = index(host)
    assert make(host, "rxe0", "eth0") == (0, "rxe0 is on eth0")
    assert (devices(host), index(host)) == (["rxe0"], number), "made anew, so connections over it are gone"


def test_the_device_is_usable(host):
    host.run("rdma", "link", "delete", "rxe0")
    make(host, "rxe0", "eth0")
    assert "PORT_ACTIVE" in host.run("ibv_devinfo", "-d", "rxe0")["out"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("rxe0", "eth7"), "plover_rdma_rxe_interface: there is no interface eth7; there are:"),
        (("rxe0", "br0"), "plover_rdma_rxe_interface: rxe0 is on eth0 already; 'rdma link delete rxe0' lets go of it"),
        (("rxe1", "eth0"), "plover_rdma_rxe_device: eth0 has the device rxe0 already; give that name"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_changed(host, words, says):
    code, said = make(host, *words)
    assert code == 1 and said.startswith(says), said
    assert devices(host) == ["rxe0"]


def test_words_that_are_missing(host):
    assert make(host, "rxe0") == (2, f"usage: {SCRIPT} DEVICE INTERFACE")


def check(host, settings: dict) -> tuple[int, str]:
    """As role runtime tries it before the members start."""
    done = host.run(
        "python3", "-m", "plover.ctl", "rdma", "check", "--address", host.ip, "--settings", json.dumps(settings), check=False, **ENV
    )
    return done["rc"], done["out"] + done["err"]


@pytest.mark.parametrize("settings", [{}, {"rdma_device": "rxe0", "rdma_port": 1, "rdma_ring_mib": 16}])
def test_the_trial_before_the_members_start_is_passed(host, settings):
    host.run("rdma", "link", "delete", "rxe0")
    make(host, "rxe0", "eth0")
    code, said = check(host, settings)
    assert code == 0 and "chosen: rxe0 port 1" in said and "PROBLEM" not in said, said


def test_the_trial_heeds_the_vm_s_settings(host):
    code, said = check(host, {"rdma_device": "mlx5_0"})
    assert code == 1 and "PROBLEM: rdma_device, rdma_port: there is no mlx5_0" in said, said


def test_the_trial_without_a_device_says_how_one_is_made(host):
    host.run("rdma", "link", "delete", "rxe0")
    code, said = check(host, {})
    assert code == 1 and "PROBLEM: transport: rdma, but this host has no RDMA device; role 'ofed' makes one" in said, said
