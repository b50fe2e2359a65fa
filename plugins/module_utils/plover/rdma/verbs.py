# SPDX-License-Identifier: GPL-3.0-or-later
"""RDMA devices, listed by pyverbs. Only this file imports it. The data path is native/src/rdma/rdma.c.

(pyverbs hides its C objects, and makes a Python object of each completion while it holds the GIL. So the native library makes
the objects of the data path, for the device, port and GID that are chosen with this list.)
"""

from __future__ import annotations

import ipaddress
import socket
import sys
from collections.abc import Iterable
from typing import Any

from ..errors import NetworkError
from .devices import Gid, Port

DISTRIBUTION = "/usr/lib/python3/dist-packages"
GIDS_MAX = 256
_LAYERS = {0: "unspecified", 1: "InfiniBand", 2: "Ethernet"}
_STATES = {0: "no change", 1: "down", 2: "init", 3: "armed", 4: "active", 5: "active, deferred"}
_KINDS = {0: "IB", 1: "RoCE v1", 2: "RoCE v2"}


def _pyverbs() -> Any:
    try:
        import pyverbs.device
    except ImportError:
        sys.path.append(DISTRIBUTION)  # it is a package of the distribution, not of a Python registry
        try:
            import pyverbs.device
        except ImportError as error:
            raise NetworkError(
                f"transport: rdma needs pyverbs ({error}); role 'ofed' installs it (python3-pyverbs), or set transport: tcp"
            ) from error
    return pyverbs


def ports() -> list[Port]:
    """All ports of all devices, in order; empty without a device. Raises NetworkError without pyverbs."""
    device = _pyverbs().device
    try:
        names = sorted(d.name.decode() for d in device.get_device_list())
    except Exception as error:  # pyverbs raises errors of its own for a missing kernel module and for no device
        if "device" in str(error).lower():
            return []
        raise NetworkError(f"RDMA devices cannot be listed: {error}") from error
    return [port for name in names for port in _ports_of(device.Context(name=name), name)]


def _ports_of(context: Any, name: str) -> Iterable[Port]:
    with context:
        table = context.query_gid_table(GIDS_MAX)
        for number in range(1, context.query_device().phys_port_cnt + 1):
            attributes = context.query_port(number)
            gids = tuple(
                Gid(
                    entry.gid_index,
                    _text(context.query_gid(number, entry.gid_index).gid),
                    _KINDS.get(entry.gid_type, "unknown"),
                    _interface(entry.ndev_ifindex),
                )
                for entry in table
                if entry.port_num == number
            )
            yield Port(
                name,
                number,
                _STATES.get(attributes.state, "unknown"),
                _LAYERS.get(attributes.link_layer, "unknown"),
                128 << attributes.active_mtu,
                gids,
            )


def _text(gid: str) -> str:
    """In the usual short form; pyverbs gives all eight groups."""
    return str(ipaddress.IPv6Address(gid.strip()))


def _interface(index: int) -> str:
    try:
        return socket.if_indextoname(index) if index else ""
    except OSError:
        return ""
