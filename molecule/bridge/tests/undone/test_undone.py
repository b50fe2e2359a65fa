# SPDX-License-Identifier: GPL-3.0-or-later
"""A host on which a change was undone, or that was never changed: its cards are its network manager's alone."""

from __future__ import annotations

import json

import pytest

ADDRESS = {"primary": "192.168.77.11", "secondary": "192.168.77.12", "witness": "192.168.77.13"}


@pytest.fixture
def name(host) -> str:
    return host.check_output("hostname")


def test_the_address_and_the_default_route_are_the_cards_again(host, name):
    entry = json.loads(host.check_output("ip -j -4 addr show dev mgmt0"))[0]
    assert [a["local"] for a in entry["addr_info"]] == [ADDRESS[name]]
    assert host.check_output("ip -o route show default").split("dev ")[1].split()[0] == "mgmt0"
    assert "master" not in entry


def test_there_is_no_bridge(host):
    assert json.loads(host.check_output("ip -j link show type bridge")) in ([], [{}])


def test_the_network_managers_files_are_as_the_user_wrote_them(host, name):
    folders = "/etc/network /etc/netplan /etc/systemd/network /etc/NetworkManager /etc/plover/bridges.d"
    assert host.run(f"grep -rl --exclude=taps.conf --exclude=00-taps.network plover {folders}").stdout == ""


def test_nothing_is_armed_and_nothing_noted_as_made(host):
    assert host.run("ls /var/lib/plover-bridge/*.undo.json /var/lib/plover-bridge/*.made.json").stdout == ""
    assert "plover-bridge" not in host.check_output("systemctl list-timers --all --no-legend 'plover-*'")


def test_the_network_manager_itself_says_that_the_card_is_up(host, name):
    said = {
        "primary": "ifquery --state mgmt0",
        "secondary": "nmcli -g GENERAL.CONNECTION device show mgmt0",
        "witness": "networkctl --no-legend --no-pager list mgmt0",
    }[name]
    want = {"primary": "mgmt0=mgmt0", "secondary": "in", "witness": "routable"}[name]
    assert want in host.check_output(said)
