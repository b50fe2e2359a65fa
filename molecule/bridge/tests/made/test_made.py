# SPDX-License-Identifier: GPL-3.0-or-later
"""What role bridge leaves on a host, by its network manager; the same after a reboot."""

from __future__ import annotations

import json

import pytest

ADDRESS = {"primary": "192.168.77.11", "secondary": "192.168.77.12", "witness": "192.168.77.13"}
MANAGERS = {"primary": ("ifupdown", "plover"), "secondary": ("networkmanager",) * 2, "witness": ("netplan", "networkd")}
# The card of br1, the address of a host behind it, and one that is free there.
BEHIND = {
    "primary": ("svc0", "192.168.79.1", "192.168.79.31"),
    "secondary": ("svc0", "192.168.79.1", "192.168.79.32"),
    "witness": ("ft0", "192.168.78.11", "192.168.78.33"),
}


@pytest.fixture
def name(host) -> str:
    return host.check_output("hostname")


def link(host, card: str) -> dict:
    return json.loads(host.check_output(f"ip -j -d link show dev {card}"))[0]


def addresses(host, card: str) -> list[str]:
    entries = json.loads(host.check_output(f"ip -j -4 addr show dev {card}"))
    return [a["local"] for entry in entries for a in entry.get("addr_info", [])]


def test_each_bridge_was_made_by_the_manager_that_had_the_card(host, name):
    for bridge, manager in zip(("br0", "br1"), MANAGERS[name] * 2):
        assert json.loads(host.file(f"/var/lib/plover-bridge/{bridge}.made.json").content_string)["manager"] == manager


def test_the_address_and_the_default_route_are_the_bridges(host, name):
    assert addresses(host, "br0") == [ADDRESS[name]]
    assert addresses(host, "mgmt0") == []
    assert host.check_output("ip -o route show default").split("dev ")[1].split()[0] == "br0"


def test_the_cards_are_in_their_bridges_which_have_their_macs(host, name):
    for bridge, card in (("br0", "mgmt0"), ("br1", BEHIND[name][0])):
        assert link(host, card)["master"] == bridge
        assert link(host, bridge)["address"] == link(host, card)["address"]
        assert not link(host, bridge)["linkinfo"]["info_data"]["stp_state"]


def test_what_the_card_was_tuned_to_stays_with_it(host, name):
    if name == "primary":
        assert link(host, "mgmt0")["mtu"] == link(host, "br0")["mtu"] == 1400


def test_the_bridge_forwards(host, name):
    """From a namespace behind br1 to another host beyond its card, as a VM's TAP does."""
    _, there, here = BEHIND[name]
    script = f"""set -e
        trap 'ip netns del lab-vm; ip link del lab-tap 2>/dev/null || true' EXIT
        ip netns add lab-vm; ip link add lab-tap type veth peer name eth0 netns lab-vm
        ip link set lab-tap master br1 up; ip -n lab-vm addr add {here}/24 dev eth0; ip -n lab-vm link set eth0 up
        nsenter --net=/run/netns/lab-vm ping -c 1 -w 10 {there}"""
    done = host.run("sh -c %s", script)
    assert done.rc == 0, done.stdout + done.stderr


def test_the_network_manager_leaves_a_vms_tap_alone_and_no_other(host, name):
    """With the files that the play installs, beside an admin's file for every TAP."""
    if name == "primary":
        return  # ifupdown takes what its files name, and nothing else
    look = {
        "secondary": "nmcli -g GENERAL.STATE device show {0} | grep -q unmanaged && echo unmanaged || echo managed",
        "witness": "networkctl --no-legend list {0} | grep -q unmanaged && echo unmanaged || echo managed",
    }[name]
    script = f"""set -e
        trap 'ip link del plover7; ip link del other7' EXIT
        for tap in plover7 other7; do ip tuntap add $tap mode tap; ip link set $tap up; done
        sleep 3
        {look.format("plover7")}; {look.format("other7")}"""
    assert host.check_output("sh -c %s", script).split() == ["unmanaged", "managed"]


def test_nothing_is_armed_any_more(host):
    assert host.run("ls /var/lib/plover-bridge/*.undo.json").rc != 0
    assert "plover-bridge" not in host.check_output("systemctl list-timers --all --no-legend 'plover-*'")
