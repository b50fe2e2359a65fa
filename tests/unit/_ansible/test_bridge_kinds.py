# SPDX-License-Identifier: GPL-3.0-or-later
"""What people's network files hold beside plain addresses: globs, aliases, commands, rules; carried to the bridge or refused."""

from __future__ import annotations

import pytest
from _ansible.bridging import ifupdown, model, plans
from test_bridging import LINKS, MAC, facts, with_ifupdown, with_netplan

yaml = pytest.importorskip("yaml")
TWO_CARDS = {**LINKS, "eth1": {"mac": "52:54:00:00:00:02", "master": "", "index": 3, "bridge": False}}


@pytest.mark.parametrize("match, others", [({"name": "eth*"}, "eth1"), ({"name": "e*[0-9]"}, "eth1")])
def test_a_definition_of_several_cards_is_refused_as_all_would_land_in_the_bridge(match, others):
    text = yaml.safe_dump({"network": {"version": 2, "ethernets": {"all-en": {"match": match, "dhcp4": True}}}}, default_flow_style=False)
    with pytest.raises(model.Refusal, match=f"defines eth0 by 'all-en', which matches {others} too .* give eth0 a definition of its own"):
        plans.join(with_netplan(text, links=TWO_CARDS))


@pytest.mark.parametrize("match", [{"name": "eth0"}, {"macaddress": MAC}, {"name": "eth*", "macaddress": MAC}])
def test_a_definition_of_one_card_is_not_refused_whatever_else_there_is(match):
    vlan = {"eth0.20": {"mac": MAC, "master": "", "index": 4, "bridge": False}}
    text = yaml.safe_dump({"network": {"version": 2, "ethernets": {"nic": {"match": match, "dhcp4": True}}}}, default_flow_style=False)
    assert plans.join(with_netplan(text, links={**TWO_CARDS, **vlan})).manager == "netplan"


def own_of(text: str) -> str:
    return plans.join(with_ifupdown("source /etc/network/interfaces.d/*\n" + text)).files[ifupdown.own_file("br0")]


def test_aliases_of_the_card_are_the_bridges():
    text = "auto eth0 eth0:1\niface eth0 inet static\n    address 192.0.2.5/24\niface eth0:1 inet static\n    address 192.0.2.6/24\n"
    plan = plans.join(with_ifupdown("source /etc/network/interfaces.d/*\n" + text))
    made = plan.files[ifupdown.own_file("br0")]
    assert made.count("iface br0 inet static") == 2 and "address 192.0.2.6/24" in made
    shown = [line for line in plan.files[ifupdown.MAIN].split("\n") if not line.startswith("#")]
    assert not any("eth0" in line for line in shown)


@pytest.mark.parametrize(
    "line, made, of_the_card",
    [
        ("up ip route add 10.0.0.0/8 via 192.0.2.9 dev eth0", "up ip route add 10.0.0.0/8 via 192.0.2.9 dev br0", False),
        ("post-up /sbin/ip -6 addr add 2001:db8::1/64 dev eth0", "post-up /sbin/ip -6 addr add 2001:db8::1/64 dev br0", False),
        ("up ip addr add 192.0.2.9/24 dev $IFACE", "up ip addr add 192.0.2.9/24 dev $IFACE", False),
        ("down ip route del 10.0.0.0/8 dev eth0", "down ip route del 10.0.0.0/8 dev br0", False),
        ("up ethtool -K eth0 gro off", "up ethtool -K eth0 gro off", True),
        ("up ethtool -K $IFACE gro off", "up ethtool -K $IFACE gro off", True),
        ("up ip route add 10.0.0.0/8 dev eth01", "up ip route add 10.0.0.0/8 dev eth01", False),
    ],
)
def test_a_command_of_a_stanza_that_works_on_addresses_is_given_the_bridge(line, made, of_the_card):
    out = own_of(f"auto eth0\niface eth0 inet static\n    address 192.0.2.5/24\n    {line}\n")
    card, bridge = out.split("auto br0")
    assert made in (card if of_the_card else bridge) and made not in (bridge if of_the_card else card)


def test_a_command_that_names_the_card_and_is_not_understood_is_refused():
    with pytest.raises(model.Refusal, match=r"has the line 'up /usr/local/bin/tune eth0', .* write \$IFACE where"):
        own_of("auto eth0\niface eth0 inet static\n    address 192.0.2.5/24\n    up /usr/local/bin/tune eth0\n")


def test_a_route_that_cannot_be_carried_is_refused():
    route = {"dst": "10.0.0.0/8", "dev": "eth0", "family": "-4", "unknown": ["encap"]}
    with pytest.raises(model.Refusal, match=r"the route to 10.0.0.0/8 of eth0 has encap, which this role does not carry over"):
        plans.join(facts(routes={"eth0": [route]}))


def test_a_bridge_that_a_rule_of_the_policy_names_is_not_taken_away():
    made = {"member": "eth0", "manager": "plover", "files": []}
    with pytest.raises(model.Refusal, match=r"names br0 \(oif br0 table 9, priority 5\).* let it name eth0"):
        plans.leave(facts(made=made, rules=[{"priority": 5, "oif": "br0", "table": "9"}]))
