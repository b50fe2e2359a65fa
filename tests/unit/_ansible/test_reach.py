# SPDX-License-Identifier: GPL-3.0-or-later
"""Which ways between members are tried, and what is said of those on which nobody answers."""

from __future__ import annotations

import json
import socket
import sys

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.plover.vmft.plugins.filter.plover_ways import FilterModule
from ansible_collections.plover.vmft.plugins.module_utils._ansible import reach

from lab.netns import alone
from lab.paths import ROOT

ADDRESSES = {"a": "192.0.2.1", "b": "192.0.2.2", "c": "192.0.2.3", "d": "192.0.2.4"}
SHOP = {"name": "shop", "primary": "a", "secondary": "b", "witness": "c"}
MAIL = {"name": "mail", "primary": "b", "secondary": "a", "witness": "d", "port": "7430"}
BLOG = {"name": "blog", "primary": "a", "secondary": "b", "witness": "c"}
HOSTVARS = {host: {"plover_replication_address": address} for host, address in ADDRESSES.items()}
ways = FilterModule().filters()["plover_ways"]


def way(host, port, *vms):
    return {"host": host, "address": ADDRESSES[host], "port": port, "vms": list(vms)}


def test_each_way_is_tried_once_for_all_vms_that_need_it():
    found = ways([SHOP, MAIL, BLOG], "a", HOSTVARS, list(ADDRESSES))
    assert found == [way("b", 7420, "shop", "blog"), way("c", 7420, "shop", "blog"), way("b", 7430, "mail"), way("d", 7430, "mail")]
    assert ways([SHOP], "d", HOSTVARS, list(ADDRESSES)) == []


def test_a_host_that_is_not_of_the_play_is_not_tried():
    assert ways([SHOP], "a", HOSTVARS, ["a", "c"]) == [way("c", 7420, "shop")]


def test_a_host_without_an_address_is_named():
    with pytest.raises(AnsibleFilterError, match="plover_replication_address of b: is missing; VM shop needs it"):
        ways([SHOP], "a", {**HOSTVARS, "b": {}}, list(ADDRESSES))


def test_a_listener_and_a_host_that_refuses_are_reached():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        ports = [server.getsockname()[1], nobody.getsockname()[1]]
        wanted = [{"host": "b", "address": "127.0.0.1", "port": port, "vms": ["shop"]} for port in ports]
        found = reach.answers(wanted, 1.0)
    assert list(found.values()) == [reach.OPEN, reach.REFUSED] and reach.problems(wanted, found) == []


FILTERED = """
import json, subprocess, sys
sys.path.insert(0, sys.argv[1] + "/plugins")
from module_utils._ansible import reach
for words in ("link set lo up", "link add eth0 type veth peer name far0", "addr add 192.0.2.1/24 dev eth0", "link set eth0 up"):
    subprocess.run(["ip", *words.split()], check=True)
subprocess.run(["nft", "-f", "-"], input=sys.argv[2], text=True, check=True)
wanted = [{"host": "b", "address": a, "port": 7420, "vms": ["shop", "mail"]} for a in ("127.0.0.2", "198.51.100.9")]
print(json.dumps(reach.problems(wanted, reach.answers(wanted, 0.5))))
"""
RULES = "table ip f {{ chain in {{ type filter hook input priority 0; policy accept; tcp dport 7420 {0}; }}; }};"


@pytest.mark.parametrize(
    "verdict, why", [("drop", "nothing answers within 0.5 s"), ("reject with icmp type host-prohibited", "No route to host")]
)
def test_a_way_that_a_packet_filter_closes_is_named_with_both_ends_and_the_port(verdict, why):
    closed, nowhere = json.loads(alone(sys.executable, "-c", FILTERED, str(ROOT), RULES.format(verdict))[0])
    assert closed.startswith(f"shop, mail: b is not reached at 127.0.0.2, TCP port 7420: {why}; let it through in the packet filters")
    assert "198.51.100.9, TCP port 7420: Network is unreachable" in nowhere
