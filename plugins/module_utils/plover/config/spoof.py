# SPDX-License-Identifier: GPL-3.0-or-later
"""What the VM's frames are checked for: the settings guest_spoof_check, guest_networks, guest_vlans and guest_serves."""

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


def given(values: dict[str, Any]) -> Given:
    """Of complete and checked settings."""
    networks = [ipaddress.ip_network(text) for text in (*values["guest_addresses"], *values["guest_networks"])]
    check = values["guest_spoof_check"]
    if check == AUTO:
        check = STRICT if networks else MAC
    mac = values["guest_mac"]
    own = ipaddress.IPv6Network(link_local(mac))
    return Given(
        check,
        mac,
        _collapsed([n for n in networks if isinstance(n, ipaddress.IPv4Network)]),
        _collapsed([own, *(n for n in networks if isinstance(n, ipaddress.IPv6Network))]),
        tuple(sorted(set(values["guest_vlans"]))),
        tuple(values["guest_serves"]),
    )


def link_local(mac: str) -> ipaddress.IPv6Address:
    """The link-local address that follows from a MAC (RFC 4291, appendix A)."""
    a = bytes.fromhex(mac.replace(":", ""))
    interface = bytes([a[0] ^ 2, a[1], a[2], 0xFF, 0xFE, a[3], a[4], a[5]])
    return ipaddress.IPv6Address(LINK_LOCAL | int.from_bytes(interface, "big"))


def _collapsed(networks: list[Any]) -> tuple[str, ...]:
    """Sorted, without overlaps: nftables refuses a set whose ranges overlap."""
    return tuple(str(network) for network in ipaddress.collapse_addresses(networks))


def problems(values: dict[str, Any]) -> list[str]:
    """Problems of the four settings, one sentence each; ``values`` are complete."""
    networks, vlans, services = values["guest_networks"], values["guest_vlans"], values["guest_serves"]
    out = [text for item in networks[:NETWORKS_MAX] if (text := _network_problem(item))]
    if len(networks) > NETWORKS_MAX:
        out.append(f"guest_networks: {len(networks)} are too many; at most {NETWORKS_MAX}, so name larger networks")
    for vlan in vlans[:VLANS_MAX]:
        if not isinstance(vlan, int) or isinstance(vlan, bool) or not 1 <= vlan <= VLAN_MAX:
            out.append(f"guest_vlans: {vlan!r} is no VLAN; choose numbers of 1 to {VLAN_MAX}")
    if len(vlans) > VLANS_MAX:
        out.append(f"guest_vlans: {len(vlans)} are too many; at most {VLANS_MAX}")
    out += [f"guest_serves: {item!r} is not one of {', '.join(SERVICES)}" for item in services if item not in SERVICES]
    if values["guest_spoof_check"] == STRICT and not values["guest_addresses"] and not networks:
        out.append(
            "guest_spoof_check: strict needs the VM's addresses; name them in guest_addresses (addresses of plover_vms) or "
            "guest_networks, or set it to mac"
        )
    return out


def _network_problem(item: Any) -> str:
    try:
        if isinstance(item, str) and "%" not in item:
            ipaddress.ip_network(item)
            return ""
    except ValueError:
        pass
    return f"guest_networks: {item!r} is no address and no network; write it like 192.168.79.51, 10.8.0.0/16 or 2001:db8::/64"
