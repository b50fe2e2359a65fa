# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may reach which port of a host, and the rules that say so. nft judges its own; real packets are tried in tests/system."""

from __future__ import annotations

import subprocess
from xml.etree import ElementTree

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.plover.vmft.plugins.filter.plover_firewall import FilterModule
from ansible_collections.plover.vmft.plugins.module_utils._ansible import firewall

ADDRESSES = {"a": "192.0.2.1", "b": "192.0.2.2", "c": "192.0.2.3", "d": "192.0.2.10"}
SHOP = {"name": "shop", "primary": "a", "secondary": "b", "witness": "c", "disks": [{"path": "/shop.img"}]}
MAIL = {"name": "mail", "primary": "d", "secondary": "a", "witness": "c", "port": "7430"}
RDMA = {**MAIL, "settings": {"transport": "rdma"}}


def opened(host, *vms):
    return {(o["proto"], o["port"]): o["sources"] for o in firewall.openings(vms, host, ADDRESSES)}


def test_each_port_is_for_the_members_that_need_it():
    assert opened("a", SHOP, MAIL) == {
        ("tcp", 7420): ["192.0.2.2", "192.0.2.3"],
        ("tcp", 7421): ["192.0.2.2"],
        ("tcp", 7430): ["192.0.2.3", "192.0.2.10"],
    }
    assert opened("c", SHOP, MAIL) == {("tcp", 7420): ["192.0.2.1", "192.0.2.2"], ("tcp", 7430): ["192.0.2.1", "192.0.2.10"]}
    assert opened("d", SHOP) == {}


def test_rdma_needs_roce_where_other_filters_rule_but_our_table_leaves_it_alone():
    assert opened("d", RDMA)["udp", 4791] == ["192.0.2.1", "192.0.2.3"]
    assert "4791" not in firewall.nft(firewall.openings([RDMA], "d", ADDRESSES))


@pytest.mark.parametrize(
    "vm, addresses, words",
    [
        (SHOP, {**ADDRESSES, "b": None}, "plover_replication_address of b: is missing; VM shop needs it"),
        (SHOP, {**ADDRESSES, "b": "b.example"}, "plover_replication_address of b: 'b.example' is not an IPv4 address"),
        ({**SHOP, "port": 80}, ADDRESSES, "port of VM shop: must be a number, 1024 to 65535"),
        ({**SHOP, "port": "7420; accept"}, ADDRESSES, "port of VM shop: must be a number, 1024 to 65535"),
    ],
)
def test_what_is_no_address_and_no_port_becomes_no_rule(vm, addresses, words):
    with pytest.raises(ValueError, match="^" + words.replace(".", "\\.")):
        firewall.openings([vm], "a", addresses)
    with pytest.raises(AnsibleFilterError, match="plover_firewall: "):
        hostvars = {host: {"plover_replication_address": address} for host, address in addresses.items()}
        FilterModule().filters()["plover_firewall"]([vm], "a", hostvars)


def test_nft_takes_the_table_and_it_is_replaced_in_one_transaction():
    text = firewall.nft(firewall.openings([SHOP, RDMA], "a", ADDRESSES))
    done = subprocess.run(["unshare", "-n", "nft", "-c", "-f", "-"], input=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert text.splitlines()[1:4] == ["table inet plover", "delete table inet plover", "table inet plover {"]
    assert "accept" not in text.replace("policy accept;", ""), "it opens nothing"
    assert firewall.nft([]) == firewall.firewalld([]) == "" and firewall.ufw([]) == []


def test_firewalld_and_ufw_let_exactly_the_members_in():
    openings = firewall.openings([SHOP], "a", ADDRESSES)
    policy = ElementTree.fromstring(firewall.firewalld(openings))
    found = [(rule.find("source").get("address"), rule.find("port").get("port"), rule[-1].tag) for rule in policy.findall("rule")]
    assert found == [("192.0.2.2", "7420", "accept"), ("192.0.2.3", "7420", "accept"), ("192.0.2.2", "7421", "accept")]
    assert policy.get("target") == "CONTINUE" and int(policy.get("priority")) < 0
    assert firewall.ufw(openings) == [f"allow from {source} to any port {port} proto tcp" for source, port, _accept in found]
