# SPDX-License-Identifier: GPL-3.0-or-later
"""What an attack has at hand: who plays what now, the attackers' shells and sockets, the loot. Paths and ports are looked up in
the running system, so that an attack does not depend on where Plover keeps its things."""

from __future__ import annotations

import base64
import contextlib
import json
import shlex
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from plover.config.settings import Config

from ..__main__ import execute
from ..chaos import members
from ..client import command
from ..hosts import CLIENT, SERVICE_IP, SERVICE_PORT, Host, ip, netns_name
from ..netns import inside
from . import group, stage

SSH_PORT = 22
COMMAND_S = 40
SHELL_PORT = 7777
CONNECT_S, ANSWER_S = 2.0, 10.0
ETH_P_ALL, PACKET_OUTGOING = 0x0003, 4
LISTENS = "0A"


class NotPossible(Exception):
    """The attack could not be carried out as meant, so its result would prove nothing."""


class Scene:
    """Roles are those at the attack's beginning."""

    def __init__(self, before: group.Snapshot) -> None:
        self.before = before
        self.leader = before.leader
        self.secondary = next(host for host in members.REPLICAS if host != before.leader)
        self.witness = "witness"
        self.loot = {key: value.encode() for key, value in stage.loot().items()}

    # ---- hosts: as root, to look and to prepare; as a user, to attack ---------------------------------------------
    def root(self, host: str, words: str, seconds: int = COMMAND_S) -> str:
        """What a command prints, ended after ``seconds``."""
        return execute(host, f"timeout {seconds} sh -c {shlex.quote(words)}").stdout

    def python(self, host: str, script: str, become: str = "", *words: str) -> str:
        """What a Python script prints on a host. ``become``: a command that runs it as somebody else. Errors are printed, too."""
        packed = base64.b64encode(script.encode()).decode()
        run = shlex.join(["timeout", str(COMMAND_S), "python3", "-", *words])
        return execute(host, f"echo {packed} | base64 -d | {become} {run} 2>&1").stdout

    def as_user(self, host: str, script: str, *words: str) -> str:
        user = stage.LOCAL_USER
        return self.python(host, script, f"setpriv --reuid={user} --regid={user} --clear-groups", *words)

    def file(self, host: str, path: str) -> Path:
        """A host's file, for this machine."""
        return Path(f"/proc/{members.first_process(host)}/root") / path.lstrip("/")

    def config(self, host: str) -> Config:
        path = self.file(host, f"/etc/plover/{members.VM}.json")
        return Config.parse(path.read_bytes(), path)

    def secrets(self) -> list[bytes]:
        """Of the group; the attackers' loot as well."""
        lines = self.file(self.leader, f"/etc/plover/{members.VM}.secret").read_bytes().split()
        return [line for line in lines if len(line) >= 32] + [self.loot["password"]]

    def ports(self, host: str) -> list[tuple[str, int]]:
        """(address, port) of all that listens by TCP on a host's network, but for its ssh."""

        def look() -> list[tuple[str, int]]:
            rows = [line.split() for line in Path("/proc/thread-self/net/tcp").read_text().splitlines()[1:]]
            return sorted({endpoint(row[1]) for row in rows if row[3] == LISTENS})

        found = inside(netns_name(host), look)
        return [(address, port) for address, port in found if port != SSH_PORT and not address.startswith("127.")]

    def members_ports(self, host: str) -> list[tuple[str, int]]:
        """Those on the replication address, as somebody elsewhere would find them."""
        mine = Host(host).replication_address
        return [(mine, port) for address, port in self.ports(host) if address in (mine, "0.0.0.0")]

    # ---- networks -----------------------------------------------------------------------------------------------
    def connect(self, netns: str, address: str, port: int, source: str = "") -> socket.socket:
        """Raises OSError."""

        def make() -> socket.socket:
            sock = socket.socket()
            sock.settimeout(CONNECT_S)
            try:
                if source:
                    sock.bind((source, 0))
                sock.connect((address, port))
            except OSError:
                sock.close()
                raise
            sock.settimeout(ANSWER_S)
            return sock

        return inside(netns, make)

    def redis(self, *words: str) -> bytes:
        """The first line of the guest's answer."""
        with self.connect(CLIENT, SERVICE_IP, SERVICE_PORT) as sock, sock.makefile("rb") as answer:
            sock.sendall(command(*words))
            return answer.readline()

    def keep_memory_mark(self) -> None:
        """The guest keeps the mark in its memory, in some pages."""
        for n in range(8):
            if self.redis("SET", f"vault:{n}", self.loot["memory"].decode() * 40) != b"+OK\r\n":
                raise NotPossible("the guest's Redis does not take the mark")

    def in_guest(self, words: str, seconds: float = 20.0) -> bytes:
        """What a command prints that the guest's root runs."""
        try:
            with self.connect(CLIENT, SERVICE_IP, SHELL_PORT) as sock:
                sock.settimeout(seconds)
                sock.sendall(f"( {words} ) 2>&1; exit\n".encode())
                return b"".join(iter(lambda: sock.recv(65_536), b""))
        except OSError as error:
            raise NotPossible(f"no shell in the guest: {error}") from error

    def guest_mac(self) -> str:
        return str(json.loads(self.file(self.leader, f"/etc/plover/{members.VM}.json").read_text())["guest_mac"])

    def mac(self, netns: str, card: str) -> str:
        return ip(netns, f"-o link show {card}").split("link/ether ")[1].split()[0]


def endpoint(text: str) -> tuple[str, int]:
    """'0100007F:1F90', as in /proc/net/tcp."""
    address, port = text.split(":")
    return socket.inet_ntoa(struct.pack("<I", int(address, 16))), int(port, 16)


@contextlib.contextmanager
def packets(netns: str, cards: list[str]) -> Iterator[Callable[[float], Iterator[bytes]]]:
    """Yields a function: frames that come in over these cards from now on, for so many seconds."""

    def make(card: str) -> socket.socket:
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 20)
        sock.bind((card, 0))
        return sock

    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(inside(netns, lambda card=card: make(card))) for card in cards]
        yield lambda seconds: _frames(socks, seconds)


def _frames(socks: list[socket.socket], seconds: float) -> Iterator[bytes]:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        for sock in socks:
            sock.settimeout(min(0.05, left))
            try:
                frame, address = sock.recvfrom(65_536)
            except TimeoutError:
                continue
            if address[2] != PACKET_OUTGOING:
                yield frame


def cards_of_replicas() -> list[str]:
    """The clients' side of the replicas' wires: whatever comes in there has left a host."""
    return [f"svc-{host}" for host in members.REPLICAS]
