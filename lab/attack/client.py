# SPDX-License-Identifier: GPL-3.0-or-later
"""A client of the VM, on br0: sends the hosts what is not meant for their clients. It takes them for routers; Linux answers for any of
its addresses on any card."""

from __future__ import annotations

import contextlib
import secrets
import socket
import struct

from ..chaos import members
from ..hosts import CLIENT, NETNS, Host, netns_name
from ..netns import inside
from . import frames, theft
from .outcome import Attack, Outcome, held, register, won
from .scene import Scene, packets

SYN = 2
ATTACKS: dict[str, Attack] = {}
attack = register(ATTACKS, "client")


def _connect(scene: Scene) -> theft.Connect:
    """Each replica's replication address, through its own address on the clients' network (stage.py sets the route)."""
    return lambda address, port: scene.connect(CLIENT, address, port)


@attack()
def reaches_the_members(scene: Scene) -> Outcome:
    """Connects to all that the replicas' hosts have open for one another. Succeeds if a connection is accepted."""
    open_to_it = []
    for host in members.REPLICAS:
        for address, port in scene.members_ports(host):
            try:
                _connect(scene)(address, port).close()
                open_to_it.append(f"{host}:{port}")
            except OSError:
                continue
    return won(f"connected to {', '.join(open_to_it)}") if open_to_it else held("no port of a member answers")


@attack()
def reads_the_disk(scene: Scene) -> Outcome:
    """Asks each open port of the secondary's host for a disk by NBD. Succeeds if the secret on the VM's disk is read."""
    return theft.read(scene, _connect(scene), scene.members_ports(scene.secondary))


@attack()
def writes_the_disk(scene: Scene) -> Outcome:
    """The same, to write. Succeeds if the image on the secondary's host has changed."""
    return theft.write(scene, _connect(scene), scene.members_ports(scene.secondary))


@attack()
def poses_as_a_member(scene: Scene) -> Outcome:
    """Sends the secondary's host, from the clients' network, the beginning of a connection in the leader's name. Succeeds if that host
    answers the leader, as seen on the replication network."""
    leader, secondary = (Host(host).replication_address for host in (scene.leader, scene.secondary))
    port, sport = scene.config(scene.secondary).port, 30_000 + secrets.randbelow(2000)
    syn = struct.pack("!HHIIBBHHH", sport, port, 1, 0, 5 << 4, SYN, 64_240, 0, 0)
    ends = socket.inet_aton(leader) + socket.inet_aton(secondary)
    syn = syn[:16] + struct.pack("!H", frames.checksum(ends + struct.pack("!HH", frames.TCP, len(syn)) + syn)) + syn[18:]
    packet = frames.ipv4(leader, secondary, frames.TCP, syn)
    frame = frames.ethernet(scene.mac(CLIENT, "eth0"), scene.mac(netns_name(scene.secondary), "br0"), frames.IPV4, packet)
    with packets(NETNS, [f"ft-{scene.secondary}"]) as seen:
        for _ in range(3):
            inside(CLIENT, lambda: _send(frame))
        for answer in seen(2.0):
            with contextlib.suppress(ValueError):
                if frames.Segment(answer).dport == sport:
                    return won(f"{scene.secondary} answers {scene.leader}, which asked nothing")
    return held("it goes nowhere")


def _send(frame: bytes) -> None:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
        sock.bind(("eth0", 0))
        sock.send(frame)
