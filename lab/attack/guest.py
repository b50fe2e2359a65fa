# SPDX-License-Identifier: GPL-3.0-or-later
"""Root in the guest of the protected VM. What it sends is seen on the wires that lead from the replicas' hosts to the clients."""

from __future__ import annotations

import base64
import secrets
import time

from ..chaos import members
from ..hosts import CLIENT_IP, NETNS, SERVICE_IP, Host
from . import frames, nbd, stage
from .outcome import VIEW, Attack, Outcome, held, register, won
from .scene import NotPossible, Scene, cards_of_replicas, packets
from .theft import SECTOR, check_disk

ATTACKS: dict[str, Attack] = {}
attack = register(ATTACKS, "guest")
OTHER_MAC, VLAN = "52:54:00:66:66:66", 66
LINK_LOCAL = "fe80::5054:ff:fe70:6c01"
SEEN_S, COPIES_SENT = 3.0, 3
ODD_FRAMES = 2000
CONSOLE_S, RUN_KIB_MAX = 20, 12 << 10


def _leaves(scene: Scene, frame: bytes, mark: bytes) -> bool:
    """Whether a frame that the guest sends comes out of a host. One that it may send is sent first: that one must."""
    mac, innocent = scene.guest_mac(), _mark()
    allowed = frames.datagram(mac, frames.BROADCAST, SERVICE_IP, "192.168.79.255", (9, 9), innocent)
    tool = "/attack/frames eth0"
    with packets(NETNS, cards_of_replicas()) as seen:
        said = scene.in_guest(f"{tool} {COPIES_SENT} {allowed.hex()} && {tool} {COPIES_SENT} {frame.hex()} && echo sent")
        if b"sent" not in said:
            raise NotPossible(f"the guest could not send: {said[-200:]!r}")
        allowed_came = False
        for found in seen(SEEN_S):
            if mark in found:
                return True
            allowed_came = allowed_came or innocent in found
    if not allowed_came:
        raise NotPossible("not even a frame that the guest may send came out of a host")
    return False


def _mark() -> bytes:
    return secrets.token_hex(8).encode()


def _spoof(scene: Scene, frame: bytes, mark: bytes, what: str) -> Outcome:
    return won(f"{what} left the host") if _leaves(scene, frame, mark) else held(f"{what} went nowhere")


@attack()
def spoofs_its_mac(scene: Scene) -> Outcome:
    """Sends in the name of another network card. Succeeds if the frame leaves the host."""
    mark = _mark()
    frame = frames.datagram(OTHER_MAC, frames.BROADCAST, SERVICE_IP, "192.168.79.255", (9, 9), mark)
    return _spoof(scene, frame, mark, "a frame with another MAC")


@attack()
def spoofs_arp(scene: Scene) -> Outcome:
    """Tells everybody that a client's address is at the guest's card. Succeeds if the ARP reply leaves the host."""
    mark, mac = _mark(), scene.guest_mac()
    frame = frames.arp(mac, frames.BROADCAST, frames.ARP_REPLY, (mac, CLIENT_IP), (frames.BROADCAST, CLIENT_IP), mark)
    return _spoof(scene, frame, mark, f"an ARP reply for {CLIENT_IP}")


@attack()
def spoofs_a_neighbour_s_arp(scene: Scene) -> Outcome:
    """Asks by ARP in the name of the other VM, address and MAC in the packet only. Succeeds if it leaves the host."""
    mark, sender = _mark(), (OTHER_MAC, stage.NEIGHBOUR_IP)
    frame = frames.arp(scene.guest_mac(), frames.BROADCAST, frames.ARP_REQUEST, sender, ("00:00:00:00:00:00", CLIENT_IP), mark)
    return _spoof(scene, frame, mark, f"an ARP request from {stage.NEIGHBOUR_IP}")


@attack()
def spoofs_neighbour_discovery(scene: Scene) -> Outcome:
    """Tells everybody that another IPv6 address is at the guest's card. Succeeds if the advertisement leaves the host."""
    mark = _mark()
    return _spoof(scene, frames.neighbour_advertisement(scene.guest_mac(), "fe80::1", mark), mark, "a neighbour advertisement for fe80::1")


@attack()
def poses_as_a_router(scene: Scene) -> Outcome:
    """Advertises itself as everybody's IPv6 router. Succeeds if the advertisement leaves the host."""
    mark = _mark()
    return _spoof(scene, frames.router_advertisement(scene.guest_mac(), LINK_LOCAL, mark), mark, "a router advertisement")


@attack()
def spoofs_its_address(scene: Scene) -> Outcome:
    """Sends an IP packet from a client's address. Succeeds if it leaves the host."""
    mark = _mark()
    frame = frames.datagram(scene.guest_mac(), frames.BROADCAST, CLIENT_IP, "192.168.79.255", (9, 9), mark)
    return _spoof(scene, frame, mark, f"a packet from {CLIENT_IP}")


@attack()
def tags_a_vlan(scene: Scene) -> Outcome:
    """Sends a frame into a VLAN that it was not given. Succeeds if the frame leaves the host."""
    mark = _mark()
    frame = frames.datagram(scene.guest_mac(), frames.BROADCAST, SERVICE_IP, "192.168.79.255", (9, 9), mark)
    return _spoof(scene, frames.tagged(frame, VLAN), mark, f"a frame with the tag of VLAN {VLAN}")


@attack()
def speaks_spanning_tree(scene: Scene) -> Outcome:
    """Says that it is the root of all bridges. Succeeds if the frame leaves the host."""
    mark = _mark()
    return _spoof(scene, frames.spanning_tree(scene.guest_mac(), mark), mark, "a spanning tree frame")


@attack()
def serves_dhcp(scene: Scene) -> Outcome:
    """Offers everybody an address, with itself as the router. Succeeds if the offer leaves the host."""
    mark = _mark()
    return _spoof(scene, frames.dhcp_offer(scene.guest_mac(), SERVICE_IP, mark), mark, "a DHCP offer")


@attack()
def reads_the_disk(scene: Scene) -> Outcome:
    """Asks each open port of the secondary's host for a disk by NBD, with the guest's own tools. Succeeds if it reads the secret on
    the secondary's disk (which is its own: but from another host, and so could it any other VM's)."""
    check_disk(scene)
    through = stage.SERVICE_IPS[scene.secondary]
    scene.in_guest(f"ip route add {Host(scene.secondary).replication_address} via {through}")
    said = []
    for address, port in scene.members_ports(scene.secondary):
        names = nbd.names(_exchange(scene, address, port, nbd.list_words()))
        said.append(f"port {port} exports {len(names)} disks")
        for name in names:
            if scene.loot["disk"] in _exchange(scene, address, port, nbd.read_words(name, stage.MARK_AT, SECTOR)):
                return won(f"read the secret on {scene.secondary}'s disk through port {port}")
    return held("; ".join(said) or "no port is open to others")


def _exchange(scene: Scene, address: str, port: int, words: bytes) -> bytes:
    """What a port says to ``words``."""
    packed = base64.b64encode(words).decode()
    said = scene.in_guest(f"(echo {packed} | base64 -d; sleep 1) | timeout 6 nc -w 2 {address} {port} | base64")
    try:
        return base64.b64decode(b"".join(said.split()), validate=True)
    except ValueError:
        return b""  # an error of nc


@attack()
def reaches_the_members(scene: Scene) -> Outcome:
    """Connects from the guest to what the replicas' hosts have open for one another. Succeeds if a connection is accepted."""
    for host in members.REPLICAS:
        scene.in_guest(f"ip route add {Host(host).replication_address} via {stage.SERVICE_IPS[host]}")
        for address, port in scene.members_ports(host):
            said = scene.in_guest(f"timeout 3 nc -w 2 {address} {port} </dev/null >/dev/null && echo open")
            if b"open" in said:
                return won(f"connected to {host}:{port}")
    return held("no port of a member answers")


@attack(VIEW)
def fills_the_console(scene: Scene) -> Outcome:
    """Writes to its serial console as fast as it can. Succeeds if the hosts' memory file systems lose 12 MiB by it; that the VM is
    lost at the switchover afterwards is harm."""
    before = {host: _used_kib(scene, host) for host in members.REPLICAS}
    scene.in_guest(f"timeout {CONSOLE_S} tr '\\0' x </dev/zero >/dev/ttyS0", CONSOLE_S + 20)
    grown = {host: _used_kib(scene, host) - kib for host, kib in before.items()}
    reply = members.ask(scene.leader, "switchover", members.OPERATION_TIMEOUT_S)
    if max(grown.values()) > RUN_KIB_MAX:
        return won(f"{max(grown.values()) >> 10} MiB of a host's memory file systems are full of it")
    return held(f"the hosts keep {max(grown.values())} KiB of it; the switchover afterwards: {reply.get('error', 'done')}")


def _used_kib(scene: Scene, host: str) -> int:
    """Of /run, where the console's log was, and of the disk's state folder."""
    words = scene.root(host, "df --output=used /run | tail -1; du -skc /var/log/plover /var/lib/plover 2>/dev/null | tail -1").split()
    return sum(int(word) for word in words if word.isdigit())


@attack()
def sends_odd_frames(scene: Scene) -> Outcome:
    """Sends the shortest and the longest frames there are, thousands of each. Success is harm only: a daemon or a QEMU that ends, a
    failover."""
    mac = scene.guest_mac()
    shortest = frames.mac_bytes(frames.BROADCAST) + frames.mac_bytes(mac) + b"\x88\xb5"
    longest = shortest + bytes(1500)
    began = time.monotonic()
    said = scene.in_guest(" ; ".join(f"/attack/frames eth0 {ODD_FRAMES} {frame.hex()}" for frame in (shortest, longest, shortest)), 40)
    if b"usage" in said:
        raise NotPossible(f"the guest could not send: {said[-200:]!r}")
    return held(f"{3 * ODD_FRAMES} frames in {time.monotonic() - began:.0f} s did nothing")
