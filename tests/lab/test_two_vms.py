# SPDX-License-Identifier: GPL-3.0-or-later
"""Two VMs on the same three hosts, each leading on another one: what happens to one leaves the other alone."""
from __future__ import annotations

import pytest
from tasks import module

from lab import deploy
from lab.__main__ import up
from lab.hosts import HOSTS, SERVICE_IP, down

VMS = {"demo": ("primary", SERVICE_IP), "second": ("secondary", deploy.SECOND_IP)}


@pytest.fixture(scope="module", autouse=True)
def deployed():
    assert down() == []
    up(list(HOSTS))
    deploy.write_inventory(two=True, patient=True)
    deploy.play()
    yield
    assert down() == []


def status(host, vm):
    return deploy.ploverctl(host, "--vm", vm, "status")[1]


def settle():
    """Each VM leads where it shall; a busy machine may have seen a failover."""
    for vm, (primary, _) in VMS.items():
        deploy.lead(primary, 120, vm)


def test_both_are_protected_and_serve_their_clients():
    settle()
    for vm, (_, address) in VMS.items():
        deploy.wait_service(60, address)
        assert {host: status(host, vm)["service"] for host in HOSTS} == dict.fromkeys(HOSTS, "protected")
        assert sorted(status("witness", vm)["in_sync"]) == ["primary", "secondary"]


def test_the_play_changes_nothing_more_and_reports_both():
    settle()
    changed, said = deploy.play()
    assert changed == 0
    rows = [line.split('"')[1].split() for line in said.splitlines() if line.strip().startswith(('"demo ', '"second '))]
    assert [row[:4] for row in rows] == [["demo", "protected", SERVICE_IP, "primary"],
                                         ["second", "protected", deploy.SECOND_IP, "secondary"]]


def test_plover_info_shows_both_on_every_host():
    found = module("plover", "plover_info")
    assert sorted(found) == sorted(HOSTS)
    for host, info in found.items():
        assert sorted(info["vms"]) == ["demo", "second"], host
        assert {vm["kind"] for vm in info["vms"].values()} == {"witness" if host == "witness" else "replica"}
        assert info["vms"]["second"]["configuration"]["vm"]["primary"] == "secondary"
        assert info["vms"]["second"]["configuration"]["vm"]["port"] == 7440


def test_a_switchover_of_one_leaves_the_other_alone():
    settle()
    before = status("secondary", "second")
    results = module("plover", "plover_switchover", name="demo", to="secondary")
    assert {host: result["changed"] for host, result in results.items()} == {
        "primary": True, "secondary": False, "witness": False}
    assert {result["status"]["leader"] for result in results.values()} == {"secondary"}
    after = status("secondary", "second")
    assert (after["view"], after["leader"], after["service"]) == (before["view"], "secondary", "protected")
    for _, address in VMS.values():
        deploy.wait_service(60, address)


def test_one_taken_away_leaves_the_other_alone():
    settle()
    before = status("primary", "demo")
    for host, seat in (("primary", "replica"), ("secondary", "replica"), ("witness", "witness")):
        result = module(host, f"plover_{seat}", name="second", state="absent", force=True)[host]
        assert result["changed"] and result["actions"][0] == f"stopped plover-{seat}@second.service", result
    assert module("plover", "plover_info")["primary"]["vms"].keys() == {"demo"}
    after = status("primary", "demo")
    assert (after["view"], after["service"]) == (before["view"], "protected")
