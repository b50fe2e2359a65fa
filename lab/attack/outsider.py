# SPDX-License-Identifier: GPL-3.0-or-later
"""Somebody with a machine on the replication network: reaches the ports, knows the settings, has no secret."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from pathlib import Path

from plover.protocol import codec, wire

from ..chaos import members
from ..netns import inside
from . import speak, theft
from .outcome import Attack, Outcome, held, register, won
from .scene import Scene
from .stage import EVIL

ATTACKS: dict[str, Attack] = {}
attack = register(ATTACKS, "outsider")
FLOOD_S, OPEN_MAX, SENDS = 8.0, 400, 32
GROWTH_KIB_MAX = 64 << 10


@attack()
def reads_the_disk(scene: Scene) -> Outcome:
    """Asks each open port of the secondary's host for a disk by NBD. Succeeds if the secret on the VM's disk is read."""
    return theft.read(scene, lambda address, port: scene.connect(EVIL, address, port), scene.members_ports(scene.secondary))


@attack()
def writes_the_disk(scene: Scene) -> Outcome:
    """The same, to write. Succeeds if the image on the secondary's host has changed."""
    return theft.write(scene, lambda address, port: scene.connect(EVIL, address, port), scene.members_ports(scene.secondary))


@attack()
def speaks_without_a_secret(scene: Scene) -> Outcome:
    """Says Hello as each other member, proves nothing, and tells lies. Succeeds if a member lets it in."""
    said = []
    for host in (scene.leader, scene.secondary, scene.witness):
        config = scene.config(host)
        for liar in (member for member in config.members if member != config.member):
            kit = speak.nothing(speak.as_member(config, liar))
            try:
                with speak.Voice(scene.connect(EVIL, config.members[config.member]["address"], config.port), kit, wire.CONTROL) as voice:
                    voice.greet(config.member)
                    voice.say(*speak.lies(scene.before.view))
                    if voice.is_let_in():
                        return won(f"{host} lets it in as {liar}")
            except OSError as error:
                said.append(f"{host}: {error}")
    return held("; ".join(sorted(set(said))) or "nobody lets it in")


@attack()
def floods_the_port(scene: Scene) -> Outcome:
    """Opens as many connections as it can to leader and secondary, for seconds, and says nothing or nonsense on them. Succeeds if a
    daemon's memory grows by 64 MiB; a failover or a lost heartbeat is harm."""
    before = _memory_kib()
    opened = inside(EVIL, lambda: _flood([(a, p) for host in (scene.leader, scene.secondary) for a, p in scene.members_ports(host)]))
    return _grown(before, f"{opened} connections in {FLOOD_S:.0f} s cost no member anything")


@attack()
def sends_without_end(scene: Scene) -> Outcome:
    """Announces a message of 64 MiB to each member and sends it, before it has proved anything. Succeeds if a daemon's memory grows by
    64 MiB."""
    before, sent = _memory_kib(), 0
    config = scene.config(scene.leader)
    head = codec.HEADER.pack(codec.MAGIC, codec.VERSION, wire.Hello.TYPE, 0, codec.cluster_tag(config.cluster_id), codec.BODY_BYTES_MAX)
    for host in (scene.leader, scene.secondary, scene.witness):
        for _ in range(SENDS):
            try:
                sock = scene.connect(EVIL, scene.config(host).members[host]["address"], config.port)
            except OSError:
                break  # nobody is let near this port
            with contextlib.suppress(OSError), sock:
                sock.settimeout(0.2)
                sock.sendall(head)
                for _ in range(64):
                    sock.sendall(bytes(1 << 20))
                    sent += 1
    return _grown(before, f"{sent} MiB were taken, and nothing grew")


def _flood(targets: list[tuple[str, int]]) -> int:
    """Half of the connections say nothing, the others something that is no message."""
    socks: list[socket.socket] = []
    opened, end = 0, time.monotonic() + FLOOD_S
    while targets and time.monotonic() < end:
        sock = socket.socket()
        sock.setblocking(False)
        sock.connect_ex(targets[opened % len(targets)])
        socks.append(sock)
        opened += 1
        if opened % 2:
            with contextlib.suppress(OSError):
                sock.send(b"GET / HTTP/1.0\r\n\r\n" * 100)
        if len(socks) > OPEN_MAX:
            old = socks.pop(0)
            old.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            old.close()
        if opened % 50 == 0:
            time.sleep(0.01)
    for sock in socks:
        sock.close()
    return opened


def _memory_kib() -> dict[str, int]:
    """Of each member's daemon."""
    out = {}
    for host, unit in members.DAEMON.items():
        for pid in members.pids(host, unit):
            with contextlib.suppress(OSError):
                for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                    if line.startswith("RssAnon:"):
                        out[host] = out.get(host, 0) + int(line.split()[1])
    return out


def _grown(before: dict[str, int], otherwise: str) -> Outcome:
    grown = {host: kib - before.get(host, kib) for host, kib in _memory_kib().items()}
    worst = max(grown, key=lambda host: grown[host], default="")
    if worst and grown[worst] > GROWTH_KIB_MAX:
        return won(f"the daemon of {worst} grew by {grown[worst] >> 10} MiB")
    return held(otherwise)
