# SPDX-License-Identifier: GPL-3.0-or-later
"""``nics`` of plover_vms: the settings made of them and back, and what is said of wrong ones, in an inventory's words."""

from __future__ import annotations

import copy
import json

import pytest
from ansible_collections.plover.vmft.plugins.module_utils._ansible import nics
from ansible_collections.plover.vmft.plugins.module_utils._ansible import settings as ps
from plover.config.settings import Config
from test_layout import problems
from test_layout_hosts import both, card, on
from test_layout_hosts import problems as host_problems
from test_settings import ADDRESSES, VM

from tests.prechecks.inventory import good, second, vms

FIRST = {"mac": "52:54:00:70:6c:01", "addresses": ["192.168.79.50"]}
OTHER = {"mac": "52:54:00:70:6c:02", "bridge": "br1", "mtu": 9000, "networks": ["10.0.0.0/8"]}
BARE = {key: value for key, value in VM.items() if key not in nics.OF_A_VM}


def with_nics(*cards, **more):
    inventory = good()
    vm = vms(inventory)[0]
    for key in nics.OF_A_VM:
        vm.pop(key, None)
    vm.update(nics=copy.deepcopy(list(cards)), **more)
    return inventory


def test_several_cards_are_good():
    assert problems(with_nics(FIRST, OTHER, {"mac": "52:54:00:70:6c:03", "tap": "tap3", "model": "e1000", "spoof_check": "mac"})) == []
    assert problems(with_nics(FIRST)) == []


@pytest.mark.parametrize("member", list(ADDRESSES))
def test_the_runtime_gets_each_card_with_a_bridge_and_a_tap(member):
    settings = ps.settings_of(
        {**BARE, "nics": [FIRST, OTHER, {"mac": "52:54:00:70:6c:03"}]}, member, ADDRESSES, {"plover_bridge_name": "br9"}
    )
    found = Config(settings).nics
    assert [(nic.mac[-2:], nic.bridge, nic.tap, nic.mtu) for nic in found] == [
        ("01", "br9", "plover0", 0),
        ("02", "br1", "plover0-1", 9000),
        ("03", "br9", "plover0-2", 0),
    ]
    assert [nic.given.check for nic in found] == ["strict", "strict", "mac"]


@pytest.mark.parametrize(
    "cards",
    [
        [FIRST],
        [FIRST, OTHER],
        [{**OTHER, "tap": "t7", "model": "virtio-net-pci"}, FIRST],
        [FIRST, {"mac": OTHER["mac"]}, {**OTHER, "mac": "52:54:00:70:6c:04"}],
    ],
)
@pytest.mark.parametrize("settings", [{}, {"failover_budget_ms": 2000}])
def test_the_round_trip_gives_the_same_settings(cards, settings):
    vm = {**BARE, "nics": cards, "settings": settings}
    for member in ADDRESSES:
        made = ps.settings_of(vm, member, ADDRESSES, {"plover_bridge_name": "br9"})
        back = ps.vm_of(made)
        assert ("nics" in back) == (len(cards) > 1) and "further_nics" not in back.get("settings", {})
        assert json.dumps(ps.settings_of(back, member, ADDRESSES), sort_keys=True) == json.dumps(made, sort_keys=True)


def test_one_card_makes_the_settings_of_a_vm_without_nics():
    assert ps.settings_of({**BARE, "nics": [FIRST]}, "primary", ADDRESSES) == ps.settings_of({**BARE, **FIRST}, "primary", ADDRESSES)


AT = "plover_vms[0]."
BAD = [
    ({"nics": []}, [f"{AT}nics: must be a list with a mapping for each card"]),
    ({"nics": {"mac": "52:54:00:70:6c:01"}}, [f"{AT}nics: must be a list"]),
    ({"nics": ["eth0"]}, [f"{AT}nics[0]: must be a mapping"]),
    ({"nics": [{"bridge": "br1"}]}, [f"{AT}nics[0].mac: is missing; every card needs it"]),
    ({"nics": [{**FIRST, "brigde": "br1"}]}, [f"{AT}nics[0].brigde: is not known; did you mean bridge?"]),
    ({"nics": [{**FIRST, "guest_mtu": 9000}]}, [f"{AT}nics[0].guest_mtu: is not known; write mtu"]),
    ({"mac": "52:54:00:70:6c:09"}, [f"{AT}mac: belongs to one of the cards in nics; write it as {AT}nics[0].mac, or remove nics"]),
    ({"settings": {"guest_mtu": 9000}}, [f"{AT}settings.guest_mtu: belongs to one of the cards in nics; write it as {AT}nics[0].mtu"]),
    ({"settings": {"further_nics": []}}, [f"{AT}settings.further_nics: the roles make it; remove it and set nics of the VM"]),
    ({"nics": [{**FIRST, "mac": "53:00:00:00:00:01"}]}, [f"{AT}nics[0].mac: must be a unicast MAC address"]),
    ({"nics": [FIRST, {"mac": "53:00:00:00:00:01"}]}, [f"{AT}nics[1].mac: 53:00:00:00:00:01 is a multicast address"]),
    ({"nics": [{**FIRST, "mtu": 9}]}, [f"{AT}nics[0].mtu: 9 must be 0, or 68 to 65521"]),
    ({"nics": [FIRST, {**OTHER, "mtu": 9}]}, [f"{AT}nics[1].mtu: 9 must be 0, or 68 to 65521 with nics[1].model virtio-net-pci"]),
    ({"nics": [FIRST, {**OTHER, "addresses": ["10.0.0.1/8"]}]}, [f"{AT}nics[1].addresses: '10.0.0.1/8' is not an IPv4 address"]),
    ({"nics": [FIRST, {**OTHER, "model": "rtl8139"}]}, [f"{AT}nics[1].model: 'rtl8139' is not one of"]),
    ({"nics": [FIRST, {**OTHER, "tap": "plover0"}]}, [f"{AT}nics[1].tap: plover0 is that of another card of this VM", f"{AT}nics[1].tap"]),
    ({"nics": [{**FIRST, "tap": "a-tap-of-14chr"}, {"mac": OTHER["mac"]}]}, [f"{AT}nics[1].tap: 'a-tap-of-14chr-1' is not valid"]),
    ({"nics": [{"mac": f"52:54:00:70:6d:{n:02x}"} for n in range(9)]}, [f"{AT}nics: 9 are too many; a VM has at most 8 cards"]),
]


@pytest.mark.parametrize("more, starts", BAD, ids=[starts[0][13:90] for _more, starts in BAD])
def test_one_error_is_one_line_with_the_card(more, starts):
    inventory = with_nics(FIRST, OTHER)
    vms(inventory)[0].update(copy.deepcopy(more))
    said = problems(inventory)
    assert len(said) == len(starts) and all(line.startswith(start) for line, start in zip(said, starts)), said


def test_a_mac_without_nics_is_still_required():
    inventory = good()
    del vms(inventory)[0]["mac"]
    assert problems(inventory) == [f"{AT}mac: is missing; every VM needs it"]


def test_what_another_vm_has_is_told_with_the_card():
    inventory = with_nics(FIRST, {**OTHER, "addresses": ["192.168.79.60"]})
    second(mac=OTHER["mac"], addresses=["192.168.79.60"], tap="plover0-1", nics=None)(inventory)
    said = problems(inventory)
    assert [line.split(":")[0] for line in said if "used" in line] == [
        "plover_vms[1].mac",
        "plover_vms[1].addresses",
        "plover_vms[1].tap",
    ], said


def test_each_cards_bridge_is_looked_for_with_its_mtu_and_its_filter():
    cards = {"nics": [FIRST, OTHER], "mac": None, "addresses": None}
    assert host_problems(None, **cards)[0].startswith("primary, secondary: plover_bridges: is missing, and there is no bridge br1")
    bridges = [card(host, "br1", kind="bridge", mtu=1500) for host in ("primary", "secondary")]
    (line,) = host_problems(both(*bridges), **cards)
    assert line.startswith("primary, secondary: nics[1].mtu of demo: 9000 is more than the 1500 of br1; raise the bridge's MTU, or lower")
    bridges = [card(host, "br1", kind="bridge", mtu=9000) for host in ("primary", "secondary")]
    assert host_problems(both(*bridges), **cards) == []
    found = host_problems(both(*bridges, on("primary", nft_problem="no")), **cards)
    assert [line.split(":")[1] for line in found] == [" nics[0].spoof_check of demo", " nics[1].spoof_check of demo"], found
