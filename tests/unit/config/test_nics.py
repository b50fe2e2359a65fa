# SPDX-License-Identifier: GPL-3.0-or-later
"""A VM's network cards, from its settings: the first by settings of its own, the others by further_nics."""

from __future__ import annotations

import pytest
from plover.config.nics import NICS_MAX
from plover.config.settings import Config
from plover.errors import ConfigError
from settings import settings

SECOND = {"mac": "52:54:00:70:6c:02", "bridge": "br1", "tap": "plover0-1"}


def config(*further, **more):
    return Config(settings("primary", further_nics=list(further), **more))


def problems(*further, **more):
    with pytest.raises(ConfigError) as error:
        config(*further, **more)
    return str(error.value).splitlines()


def test_a_vm_has_one_card_unless_it_is_given_more():
    (nic,) = config(guest_mtu=9000, guest_addresses=["192.0.2.1"], network_bridge="br7", network_tap="t").nics
    assert (nic.number, nic.mac, nic.bridge, nic.tap, nic.mtu) == (0, "52:54:00:70:6c:01", "br7", "t", 9000)
    assert (nic.model, nic.addresses, nic.given.check) == ("virtio-net-pci", ("192.0.2.1",), "strict")


def test_each_further_card_has_all_that_the_first_has():
    third = {"mac": "52:54:00:70:6c:03", "bridge": "br0", "tap": "t3", "model": "e1000", "networks": ["10.0.0.0/8"], "vlans": [7]}
    first, second, last = config({**SECOND, "mtu": 1400, "addresses": ["192.0.2.9"], "serves": ["dhcp"]}, third).nics
    assert [nic.number for nic in (first, second, last)] == [0, 1, 2]
    assert second.seen == ["virtio-net-pci", SECOND["mac"], 1400] and last.seen == ["e1000", third["mac"], 0]
    assert (second.given.check, second.given.mac, second.given.ipv4) == ("strict", SECOND["mac"], ("192.0.2.9/32",))
    assert second.given.services == ("dhcp",) and (last.given.ipv4, last.given.vlans) == (("10.0.0.0/8",), (7,))
    assert first.given.check == "mac" and first.given.vlans == ()


BAD = [
    ("eth1", "further_nics[0]: must be an object with at least mac, bridge, tap"),
    ({}, "further_nics[0].mac: is missing; every card needs its own"),
    ({**SECOND, "mac": 7}, "further_nics[0].mac: 7 is not valid; write it like 52:54:00:70:6c:02"),
    ({**SECOND, "mac": "52:54:00:70:6C:02"}, "further_nics[0].mac: '52:54:00:70:6C:02' is not valid; write it like 52:54:00:70:6c:02"),
    ({**SECOND, "mac": "53:54:00:70:6c:02"}, "further_nics[0].mac: 53:54:00:70:6c:02 is a multicast address; choose one whose first"),
    ({**SECOND, "mac": "52:54:00:70:6c:01"}, "further_nics[0].mac: 52:54:00:70:6c:01 is that of another card of this VM; give each"),
    ({**SECOND, "tap": "plover0"}, "further_nics[0].tap: plover0 is that of another card of this VM; give each card a TAP of its own"),
    ({**SECOND, "tap": "a" * 16}, "further_nics[0].tap: 'aaaaaaaaaaaaaaaa' is not valid; write it like plover0-1"),
    ({**SECOND, "bridge": "../x"}, "further_nics[0].bridge: '../x' is not valid; write it like br1"),
    ({**SECOND, "model": "rtl8139"}, "further_nics[0].model: 'rtl8139' is not one of virtio-net-pci, e1000"),
    ({**SECOND, "model": ["e1000"]}, "further_nics[0].model: must be of type str, not list"),
    ({**SECOND, "mtu": True}, "further_nics[0].mtu: must be of type int, not bool"),
    ({**SECOND, "mtu": 60}, "further_nics[0].mtu: 60 must be 0, or 68 to 65521 with further_nics[0].model virtio-net-pci"),
    ({**SECOND, "mtu": -1}, "further_nics[0].mtu: -1 must be 0, or 68 to 65521"),
    ({**SECOND, "mtu": 9000, "model": "e1000"}, "further_nics[0].mtu: 9000 must be 0, or"),
    ({**SECOND, "addresses": ["192.0.2.1/24"]}, "further_nics[0].addresses: '192.0.2.1/24' is not an IPv4 address (write it without"),
    ({**SECOND, "addresses": "192.0.2.1"}, "further_nics[0].addresses: must be of type list, not str"),
    ({**SECOND, "networks": ["10.0.0.1/8"]}, "further_nics[0].networks: '10.0.0.1/8' is no address and no network"),
    ({**SECOND, "vlans": [4095]}, "further_nics[0].vlans: 4095 is no VLAN"),
    ({**SECOND, "serves": ["dns"]}, "further_nics[0].serves: 'dns' is not one of dhcp, router"),
    ({**SECOND, "spoof_check": "no"}, "further_nics[0].spoof_check: 'no' is not one of auto, strict, mac, off"),
    (
        {**SECOND, "spoof_check": "strict"},
        "further_nics[0].spoof_check: strict needs the VM's addresses; name them in further_nics[0].addr",
    ),
    ({**SECOND, "vlan": 7}, "further_nics[0].vlan: unknown; known are mac, bridge, tap, model, mtu, addresses, spoof_check, networks,"),
    ({**SECOND, "a\nb": 7}, "further_nics[0].'a\\nb': unknown; known are mac, bridge"),
]


@pytest.mark.parametrize("card, said", BAD, ids=[said[:70] for _card, said in BAD])
def test_what_no_card_can_have_is_told_with_the_remedy(card, said):
    assert any(line.startswith(said) for line in problems(card)), problems(card)


def test_the_first_card_is_told_by_its_own_settings():
    assert problems(guest_mtu=60) == ["guest_mtu: 60 must be 0, or 68 to 65521 with guest_nic virtio-net-pci, which alone tells it"]
    assert problems({**SECOND, "mac": "52:54:00:70:6c:01"}, guest_addresses=["x"])[0].startswith("guest_addresses: 'x' is not an IPv4")


def cards(count):
    return [{"mac": f"52:54:00:70:6d:{n:02x}", "bridge": "br0", "tap": f"t{n}"} for n in range(count)]


def test_a_vm_has_eight_cards_at_most():
    assert len(config(*cards(NICS_MAX - 1)).nics) == NICS_MAX
    assert problems(*cards(NICS_MAX)) == ["further_nics: 8 and the first one are too many; a VM has at most 8 cards"]
