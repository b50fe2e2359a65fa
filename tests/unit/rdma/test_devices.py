# SPDX-License-Identifier: GPL-3.0-or-later
"""Which RDMA port and GID is taken, and how a wrong setting is refused."""

from __future__ import annotations

import pytest
from plover.errors import NetworkError
from plover.rdma.devices import Gid, Port, choose

OURS = "10.0.0.1"
MAPPED = f"::ffff:{OURS}"


def roce(device: str, *gids: Gid, state: str = "active", number: int = 1) -> Port:
    return Port(device, number, state, "Ethernet", 1024, gids)


LINK_LOCAL = Gid(0, "fe80::1", "RoCE v2", "eth0")
V1, V2 = Gid(1, MAPPED, "RoCE v1", "eth0"), Gid(2, MAPPED, "RoCE v2", "eth0")
IB = Port("mlx4_0", 2, "active", "InfiniBand", 4096, (Gid(0, "fe80::2", "IB", ""),))


@pytest.mark.parametrize(
    "ports, settings, expected",
    [
        ([roce("rxe0", LINK_LOCAL, V2)], {}, ("rxe0", 1, 2)),
        ([roce("rxe0", V1, V2)], {}, ("rxe0", 1, 2)),
        ([roce("rxe0", V1)], {}, ("rxe0", 1, 1)),
        ([roce("rxe0", LINK_LOCAL), roce("rxe1", V2)], {}, ("rxe1", 1, 2)),
        ([roce("rxe0", V2, state="down"), roce("rxe1", V2)], {}, ("rxe1", 1, 2)),
        ([roce("rxe0", V2), roce("rxe1", V2)], {"device": "rxe1"}, ("rxe1", 1, 2)),
        ([roce("mlx5_0", V2), roce("mlx5_0", V2, number=2)], {"port": 2}, ("mlx5_0", 2, 2)),
        ([roce("rxe0", LINK_LOCAL, V2)], {"gid_index": 0}, ("rxe0", 1, 0)),
        ([IB], {}, ("mlx4_0", 2, 0)),
        ([IB, roce("rxe0", V2)], {}, ("rxe0", 1, 2)),
    ],
)
def test_the_port_that_has_our_address_is_taken(ports, settings, expected):
    chosen = choose(ports, OURS, **settings)
    assert chosen[:3] == expected and chosen.why


@pytest.mark.parametrize(
    "ports, settings, words",
    [
        ([], {}, "no RDMA device; role 'ofed' makes one .* or set transport: tcp"),
        ([roce("rxe0", V2)], {"device": "mlx5_0"}, "rdma_device, rdma_port: there is no mlx5_0 .* rxe0 port 1"),
        ([roce("rxe0", V2)], {"port": 3}, "there is no device with port 3"),
        ([roce("rxe0", V2, state="down")], {}, "no link is active: rxe0 port 1 .down.; bring it up"),
        ([roce("rxe0", LINK_LOCAL)], {}, "rdma_gid_index: no GID of rxe0 port 1 stands for this member's 10.0.0.1"),
        ([roce("rxe0", LINK_LOCAL)], {"gid_index": 7}, "has no GID 7; there are 0 .RoCE v2, fe80::1."),
    ],
)
def test_what_cannot_be_is_refused_by_the_settings_name(ports, settings, words):
    with pytest.raises(NetworkError, match=words):
        choose(ports, OURS, **settings)
