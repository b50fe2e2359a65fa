# SPDX-License-Identifier: GPL-3.0-or-later
"""The secondary's disk, taken over the network: from wherever an attacker can connect."""

from __future__ import annotations

import socket
from collections.abc import Callable

from . import nbd, stage
from .outcome import Outcome, held, won
from .scene import NotPossible, Scene

SECTOR = 512
Connect = Callable[[str, int], socket.socket]


def _open(connect: Connect, ports: list[tuple[str, int]]) -> tuple[nbd.Client, socket.socket] | str:
    """A client of the first export that a port offers; or what the ports said instead."""
    said = []
    for address, port in ports:
        try:
            with connect(address, port) as sock:
                found = nbd.exports(sock)
            if found:
                sock = connect(address, port)
                return nbd.Client(sock, found[0]), sock
            said.append(f"port {port} exports nothing")
        except (OSError, nbd.NbdError) as error:
            said.append(f"port {port}: {error}")
    return "; ".join(said) or "no port is open to others"


def read(scene: Scene, connect: Connect, ports: list[tuple[str, int]]) -> Outcome:
    """Succeeds if the secret that is on the VM's disk is read."""
    check_disk(scene)
    opened = _open(connect, ports)
    if isinstance(opened, str):
        return held(opened)
    client, sock = opened
    with sock:
        data = client.read(stage.MARK_AT, SECTOR)
    return won("read the secret on the secondary's disk") if scene.loot["disk"] in data else held(f"read {data[:16]!r}, which is not it")


def write(scene: Scene, connect: Connect, ports: list[tuple[str, int]]) -> Outcome:
    """Succeeds if the image on the secondary has changed. What was there is put back."""
    image = scene.file(scene.secondary, stage.DISK)
    mark = b"written by an attacker".ljust(SECTOR, b"!")
    opened = _open(connect, ports)
    if isinstance(opened, str):
        return held(opened)
    client, sock = opened
    with sock:
        before = client.read(stage.SCRATCH_AT, SECTOR)
        try:
            client.write(stage.SCRATCH_AT, mark)
        except nbd.NbdError as error:
            return held(f"the export takes no writes: {error}")
        try:
            with open(image, "rb") as file:
                file.seek(stage.SCRATCH_AT)
                changed = file.read(SECTOR) == mark
        finally:
            client.write(stage.SCRATCH_AT, before)
    return won("overwrote a part of the secondary's disk") if changed else held("the image did not change")


def check_disk(scene: Scene) -> None:
    """The secret must be there to be stolen."""
    with open(scene.file(scene.secondary, stage.DISK), "rb") as file:
        file.seek(stage.MARK_AT)
        if scene.loot["disk"] not in file.read(SECTOR):
            raise NotPossible("the secret is not on the secondary's disk")
