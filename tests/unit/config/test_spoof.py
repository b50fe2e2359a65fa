# SPDX-License-Identifier: GPL-3.0-or-later
"""What a VM was given, from its settings."""

from __future__ import annotations

import pytest
from plover.config import spoof
from plover.config.settings import Config
from plover.errors import ConfigError
from settings import settings


def given(**more):
    return Config(settings("primary", **more)).nics[0].given


def problems(**more):
    with pytest.raises(ConfigError) as error:
        Config(settings("primary", **more))
    return str(error.value).splitlines()


@pytest.mark.parametrize(
    "more, check",
    [
        ({}, "mac"),
        ({"guest_addresses": ["192.0.2.1"]}, "strict"),
        ({"guest_networks": ["2001:db8::/64"]}, "strict"),
        ({"guest_addresses": ["192.0.2.1"], "guest_spoof_check": "mac"}, "mac"),
        ({"guest_addresses": ["192.0.2.1"], "guest_spoof_check": "off"}, "off"),
        ({"guest_networks": ["192.0.2.1"], "guest_spoof_check": "strict"}, "strict"),
    ],
)
def test_a_vm_whose_addresses_are_known_is_held_to_them(more, check):
    assert given(**more).check == check


def test_addresses_and_networks_are_one_set_without_overlaps():
    found = given(guest_addresses=["10.1.2.3", "192.0.2.1"], guest_networks=["10.0.0.0/8", "10.0.0.0/9", "2001:db8::/64", "2001:db8::1"])
    assert found.ipv4 == ("10.0.0.0/8", "192.0.2.1/32")
    assert found.ipv6 == ("2001:db8::/64", "fe80::5054:ff:fe70:6c01/128")


def test_the_link_local_address_follows_from_the_mac():
    assert str(spoof.link_local("00:00:5e:00:53:01")) == "fe80::200:5eff:fe00:5301"
    assert given(guest_networks=["fe80::/10"]).ipv6 == ("fe80::/10",)


def test_each_problem_is_told_with_the_remedy():
    assert problems(guest_spoof_check="strict") == [
        "guest_spoof_check: strict needs the VM's addresses; name them in guest_addresses (addresses of plover_vms) or guest_networks, "
        "or set it to mac"
    ]
    for bad in ("10.0.0.1/8", "2001:db8::1/64", "here", "10.0.0.0/33", "", None, 7, {}, True, "fe80::1%eth0", "10.0.0.0/8\n"):
        (problem,) = problems(guest_networks=[bad])
        assert problem.startswith(f"guest_networks: {bad!r} is no address and no network; write it like ")
    for bad in (0, 4095, -1, "5", True, None, 1.0, 10**30):
        assert problems(guest_vlans=[bad]) == [f"guest_vlans: {bad!r} is no VLAN; choose numbers of 1 to 4094"]
    assert problems(guest_serves=["dns", []]) == [f"guest_serves: {bad} is not one of dhcp, router" for bad in ("'dns'", "[]")]


def test_the_lists_are_bounded():
    assert "guest_networks: 65 are too many" in problems(guest_networks=[f"10.{n}.0.0/24" for n in range(65)])[0]
    assert problems(guest_vlans=list(range(1, 66))) == ["guest_vlans: 65 are too many; at most 64"]
