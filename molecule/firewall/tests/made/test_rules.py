# SPDX-License-Identifier: GPL-3.0-or-later
"""Who gets through to whose ports, tried with real connections, and what the role leaves on each host."""

from __future__ import annotations

import pytest

NUMBERS = {"primary": 11, "secondary": 12, "witness": 13}
REPLICAS = ("primary", "secondary")


@pytest.fixture
def me(host):
    return host.check_output("hostname")


def reaches(host, network, other, port):
    return host.run(f"timeout 2 bash -c '</dev/tcp/192.168.{network}.{NUMBERS[other]}/{port}'").rc == 0


def test_members_reach_each_other_by_the_replication_network_only(host, me):
    for other in NUMBERS.keys() - {me}:
        assert reaches(host, 78, other, 7420)
        assert not reaches(host, 77, other, 7420), "by the management network"


def test_the_disks_port_is_for_the_other_replica(host, me):
    for other in set(REPLICAS) - {me}:
        assert reaches(host, 78, other, 7421) is (me in REPLICAS)


def test_a_member_s_address_on_another_card_is_no_way_in(host, me):
    for other in NUMBERS.keys() - {me}:
        to = f"192.168.78.{NUMBERS[other]}"
        assert host.run(f"ip route add {to}/32 via 192.168.77.{NUMBERS[other]} src 192.168.78.{NUMBERS[me]}").rc == 0
        try:
            assert not reaches(host, 78, other, 7420)
        finally:
            host.run(f"ip route del {to}/32")


def test_other_ports_are_as_before(host, me):
    if me != "witness":
        assert reaches(host, 77, "witness", 9999) and reaches(host, 78, "witness", 9999)
    else:
        assert not any(reaches(host, 78, other, 9999) for other in REPLICAS), "ufw and firewalld still rule"


def test_the_table_is_loaded_at_each_boot(host):
    assert host.service("plover-firewall").is_enabled and host.service("plover-firewall").is_running
    assert "tcp dport 7420" in host.check_output("nft list table inet plover")
    file = host.file("/etc/plover/firewall.nft")
    assert (file.user, file.mode) == ("root", 0o640)


def test_what_rules_on_the_host_was_told(host, me):
    if me == "primary":
        rules = host.check_output("ufw show added").splitlines()
        assert sorted(rule for rule in rules if "comment 'plover'" in rule) == [
            "ufw allow from 192.168.78.12 to any port 7420 proto tcp comment 'plover'",
            "ufw allow from 192.168.78.12 to any port 7421 proto tcp comment 'plover'",
            "ufw allow from 192.168.78.13 to any port 7420 proto tcp comment 'plover'",
        ]
        assert "ufw allow from 192.0.2.1 to any port 7420 proto tcp" in rules
    assert ("plover" in host.run("firewall-cmd --get-policies").stdout.split()) is (me == "secondary")
