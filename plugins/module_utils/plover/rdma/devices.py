# SPDX-License-Identifier: GPL-3.0-or-later
"""Choosing the RDMA device, port and GID that carry the replication, from the member's address. Pure."""

from __future__ import annotations

import ipaddress
from typing import NamedTuple

from ..errors import NetworkError

NONE = (
    "transport: rdma, but this host has no RDMA device; role 'ofed' makes one (plover_rdma_stack: distro, mlnx or "
    "soft-roce), or set transport: tcp"
)
KINDS = ("RoCE v2", "IB", "RoCE v1")  # best first: v2 can be routed


class Gid(NamedTuple):
    index: int  # type: ignore[assignment]  # tuple has a method of that name; nobody calls it
    text: str  # an IPv6 address; an IPv4 address in its mapped form
    kind: str
    interface: str


class Port(NamedTuple):
    device: str
    number: int
    state: str
    link_layer: str
    mtu: int  # bytes
    gids: tuple[Gid, ...]


class Choice(NamedTuple):
    device: str
    port: int
    gid_index: int
    why: str


def of_address(gid: Gid, address: str) -> bool:
    """Whether the GID stands for this IPv4 address."""
    mapped = ipaddress.IPv6Address(gid.text).ipv4_mapped
    return mapped is not None and str(mapped) == address


def choose(ports: list[Port], address: str, device: str = "", port: int = 0, gid_index: int = -1) -> Choice:
    """For a member at ``address``. Uses the device, port and GID that the settings name. Finds the others by the address, or
    else takes the first active port. Raises NetworkError, naming the setting.
    """
    if not ports:
        raise NetworkError(NONE)
    known = ", ".join(f"{p.device} port {p.number} ({p.state})" for p in ports)
    left = [p for p in ports if device in ("", p.device) and port in (0, p.number)]
    if not left:
        raise NetworkError(f"rdma_device, rdma_port: there is no {device or 'device'} with port {port or 'any'}; there are: {known}")
    active = [p for p in left if p.state == "active"]
    if not active:
        raise NetworkError(f"rdma_device, rdma_port: no link is active: {known}; bring it up")
    found = [
        (KINDS.index(g.kind), n, p, g)
        for n, p in enumerate(active)
        for g in p.gids
        if g.kind in KINDS and of_address(g, address) and gid_index in (-1, g.index)
    ]
    if found:
        _rank, _order, one, gid = min(found, key=lambda f: (f[0], f[1], f[3].index))
        what = f"{gid.kind}, {gid.interface}"
        return Choice(one.device, one.number, gid.index, f"its GID {gid.index} ({what}) is our address {address}")
    return _without_address(active, address, gid_index)


def _without_address(active: list[Port], address: str, gid_index: int) -> Choice:
    one = active[0]
    if gid_index >= 0:
        if gid_index not in {g.index for g in one.gids}:
            raise NetworkError(
                f"rdma_gid_index: {one.device} port {one.number} has no GID {gid_index}; there are "
                f"{', '.join(f'{g.index} ({g.kind}, {g.text})' for g in one.gids) or 'none'}"
            )
        return Choice(one.device, one.number, gid_index, "rdma_gid_index says so")
    if one.link_layer == "InfiniBand" and one.gids:
        return Choice(one.device, one.number, one.gids[0].index, "the first active InfiniBand port; LIDs lead there")
    raise NetworkError(
        f"rdma_gid_index: no GID of {one.device} port {one.number} stands for this member's {address}; "
        "put the address on that device's interface, or name the device and the GID"
    )
