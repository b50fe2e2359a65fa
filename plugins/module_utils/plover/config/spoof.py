# SPDX-License-Identifier: GPL-3.0-or-later
"""What the frames of one card of the VM are checked for: spoof_check, networks, vlans and serves of a card (:mod:`nics`)."""

from __future__ import annotations

import ipaddress
from typing import Any, NamedTuple, Union

AUTO, STRICT, MAC, OFF = CHECKS = ("auto", "strict", "mac", "off")
DHCP, ROUTER = SERVICES = ("dhcp", "router")
NETWORKS_MAX, VLANS_MAX = 64, 64
VLAN_MAX = 4094
LINK_LOCAL = 0xFE80 << 112

Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]  # noqa: UP007 (ansible-test takes the bars for an operator)


class Given(NamedTuple):
    """What a VM was given. ``check``: strict, mac or off."""

    check: str
    mac: str
    ipv4: tuple[str, ...]
    ipv6: tuple[str, ...]
    vlans: tuple[int, ...]
    services: tuple[str, ...]


def given(card: dict[str, Any]) -> Given:
    """Of a card whose values are complete and checked."""
    networks = [ipaddress.ip_network(text) for text in (*card["addresses"], *card["networks"])]
    check, mac = card["spoof_check"], card["mac"]
    if check == AUTO:
        check = STRICT if networks else MAC
    own = ipaddress.IPv6Network(link_local(mac))
    return Given(
        check,
        mac,
        _collapsed([n for n in networks if isinstance(n, ipaddress.IPv4Network)]),
        _collapsed([own, *(n for n in networks if isinstance(n, ipaddress.IPv6Network))]),
        tuple(sorted(set(card["vlans"]))),
        tuple(card["serves"]),
    )


def link_local(mac: str) -> ipaddress.IPv6Address:
    """The link-local address that follows from a MAC (RFC 4291, appendix A)."""
    a = bytes.fromhex(mac.replace(":", ""))
    interface = bytes([a[0] ^ 2, a[1], a[2], 0xFF, 0xFE, a[3], a[4], a[5]])
    return ipaddress.IPv6Address(LINK_LOCAL | int.from_bytes(interface, "big"))


def _collapsed(networks: list[Any]) -> tuple[str, ...]:
    """Sorted, without overlaps: nftables refuses a set whose ranges overlap."""
    return tuple(str(network) for network in ipaddress.collapse_addresses(networks))


def problems(card: dict[str, Any], names: dict[str, str]) -> list[str]:
    """Problems of the four, one sentence each. ``names``: of a card's keys, in sentences."""
    networks, vlans, services = card["networks"], card["vlans"], card["serves"]
    where = names["networks"]
    out = [text for item in networks[:NETWORKS_MAX] if (text := _network_problem(where, item))]
    if len(networks) > NETWORKS_MAX:
        out.append(f"{where}: {len(networks)} are too many; at most {NETWORKS_MAX}, so name larger networks")
    where = names["vlans"]
    for vlan in vlans[:VLANS_MAX]:
        if not isinstance(vlan, int) or isinstance(vlan, bool) or not 1 <= vlan <= VLAN_MAX:
            out.append(f"{where}: {vlan!r} is no VLAN; choose numbers of 1 to {VLAN_MAX}")
    if len(vlans) > VLANS_MAX:
        out.append(f"{where}: {len(vlans)} are too many; at most {VLANS_MAX}")
    out += [f"{names['serves']}: {item!r} is not one of {', '.join(SERVICES)}" for item in services if item not in SERVICES]
    if card["spoof_check"] == STRICT and not card["addresses"] and not networks:
        out.append(
            f"{names['spoof_check']}: strict needs the VM's addresses; name them in {names['addresses']} (addresses of plover_vms) or "
            f"{names['networks']}, or set it to mac"
        )
    return out


def _network_problem(where: str, item: Any) -> str:
    try:
        if isinstance(item, str) and "%" not in item:
            ipaddress.ip_network(item)
            return ""
    except ValueError:
        pass
    return f"{where}: {item!r} is no address and no network; write it like 192.168.79.51, 10.8.0.0/16 or 2001:db8::/64"
