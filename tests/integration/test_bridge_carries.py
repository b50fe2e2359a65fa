# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host's addresses and routes may look like, carried to a bridge and back by the real kernel, each step cut short once."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from lab.netns import alone

ROOT = Path(__file__).resolve().parent.parent.parent
BEGIN = """
import sys
sys.path.insert(0, sys.argv[1] + "/plugins/module_utils")
import json
from _ansible.bridging import host, model, own, plans, routes
def ip(*lines):
    for line in lines:
        host.must(["ip", *line.split()])
ip("link set lo up")
for n in (0, 1):
    ip(f"link add eth{n} type veth peer name far{n}", f"link set far{n} up", f"link set eth{n} up")
ip("addr add 198.51.100.2/24 dev eth1", *json.loads(sys.argv[2]))
def ways(device):
    said = {family: host.command(["ip", family, "route", "show", "table", "all"])[1] for family in ("-4", "-6")}
    kept = [line for text in said.values() for line in text.split("\\n")
            if f"dev {device}" in line and " local " not in f" {line}" and "kernel" not in line and "broadcast" not in line
            and "multicast" not in line and "anycast" not in line and not line.startswith("fe80")]
    return sorted(" ".join(line.replace(f"dev {device}", "dev X").split()) for line in kept)
def own_addresses(device):
    return sorted(json.dumps(a, sort_keys=True) for a in host._addresses().get(device, []))
def show(device):
    print(json.dumps([own_addresses(device), ways(device)]))
def carry(source, target):
    facts = host.look("br0", "eth0")
    host.carry(source, target, facts.addresses.get(source, []), facts.routes.get(source, []))
"""
DEFAULT = "route add default via 192.0.2.1 dev eth0"
CASES = {
    "plain": ["addr add 192.0.2.5/24 dev eth0", DEFAULT + " metric 7"],
    "a gateway outside the subnet": ["addr add 203.0.113.5/32 dev eth0", "route add default via 203.0.113.1 dev eth0 onlink"],
    "a gateway behind a route of its own": [
        "addr add 203.0.113.5/32 dev eth0",
        "route add 203.0.113.1 dev eth0",
        "route add default via 203.0.113.1 dev eth0",
    ],
    "a peer": ["addr add 10.0.0.1 peer 10.0.0.2/32 dev eth0", "route add default via 10.0.0.2 dev eth0"],
    "a peer of IPv6": ["-6 addr add 2001:db8:9::1 peer 2001:db8:9::2/128 dev eth0 nodad"],
    "/128 and a link-local gateway": ["addr add 2001:db8::5/128 dev eth0 nodad", "-6 route add default via fe80::1 dev eth0 metric 3"],
    "several next hops": [
        "addr add 192.0.2.5/24 dev eth0",
        "route add default nexthop via 192.0.2.1 dev eth0 weight 2 nexthop via 192.0.2.2 dev eth0 weight 1",
    ],
    "next hops on two cards": [
        "addr add 192.0.2.5/24 dev eth0",
        "route add default nexthop via 192.0.2.1 dev eth0 weight 2 nexthop via 198.51.100.1 dev eth1 weight 1",
    ],
    "next hops of IPv6": [
        "addr add 2001:db8::5/64 dev eth0 nodad",
        "-6 route add default nexthop via fe80::2 dev eth0 nexthop via fe80::3 dev eth0",
    ],
    "a table of its own": [
        "addr add 192.0.2.5/24 dev eth0",
        DEFAULT,
        "route add default via 192.0.2.1 dev eth0 table 100",
        "rule add from 192.0.2.5 table 100",
    ],
    "two defaults": ["addr add 192.0.2.5/24 dev eth0", DEFAULT + " metric 1", "route add default via 192.0.2.2 dev eth0 metric 2"],
    "by way of IPv6": ["addr add 192.0.2.5/32 dev eth0", "route add default via inet6 fe80::1 dev eth0"],
    "metrics of a route": ["addr add 192.0.2.5/24 dev eth0", "route add 10.3.0.0/16 dev eth0 src 192.0.2.5 mtu 1400 advmss 1300"],
    "no route of the prefix": ["addr add 192.0.2.5/24 dev eth0 noprefixroute", "route add 192.0.2.0/24 dev eth0 proto dhcp metric 100"],
    "many addresses": [f"addr add 192.0.2.{n}/24 dev eth0" for n in range(5, 15)] + [DEFAULT],
}


def in_a_network(commands: list[str], script: str) -> list[str]:
    return alone(sys.executable, "-c", BEGIN + script, str(ROOT), json.dumps(commands))


@pytest.mark.parametrize("commands", CASES.values(), ids=CASES)
def test_it_is_on_the_bridge_and_then_on_the_card_again(commands):
    before, bridged, after = in_a_network(
        commands,
        """
show("eth0")
host.make_bridge("br0", "eth0"); carry("eth0", "br0"); show("br0")
assert not own_addresses("eth0") and not ways("eth0"), (own_addresses("eth0"), ways("eth0"))
carry("br0", "eth0"); host.detach("br0", "eth0", True); show("eth0")
""",
    )
    assert before == bridged == after and json.loads(before)[0]


@pytest.mark.parametrize("commands", CASES.values(), ids=CASES)
def test_wherever_the_change_is_cut_short_the_way_back_gives_all_of_it(commands):
    """Each command of the change fails for ever from the n-th on; then the way back runs with none failing."""
    lines = in_a_network(
        commands,
        """
real, facts = host.command, host.look("br0", "eth0")
addresses, found = facts.addresses.get("eth0", []), facts.routes.get("eth0", [])
show("eth0")
host.make_bridge("br0", "eth0")
for last in range(40):
    count = [0]
    def cut(words, *more):
        reads = "show" in words
        count[0] += not reads
        return real(words, *more) if reads or count[0] <= last else (1, "cut")
    host.command = cut
    try:
        host.carry("eth0", "br0", addresses, found)
        done = True
    except host.HostError:
        done = False
    host.command = real
    host.carry("br0", "eth0", addresses, found)
    show("eth0")
    if done and count[0] <= last:
        break
else:
    raise SystemExit("it never came to its end")
""",
    )
    assert len(lines) > 3 and set(lines) == {lines[0]}


def test_what_cannot_be_carried_is_refused_and_nothing_is_touched():
    said = in_a_network(
        ["addr add 192.0.2.5/24 dev eth0", DEFAULT + " table 100", "rule add iif eth0 table 100 priority 77"],
        """
show("eth0")
try:
    plans.join(host.look("br0", "eth0"))
except model.Refusal as refusal:
    print(refusal)
show("eth0")
""",
    )
    assert said[0] == said[2]
    assert said[1].startswith("plover_bridge_member: a rule of the routing policy names eth0 (iif eth0 table 100, priority 77)")
