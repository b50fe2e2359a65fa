# SPDX-License-Identifier: GPL-3.0-or-later
"""Run in a network namespace of its own: what a ruleset does to a frame between two ports of a bridge, and what the look says."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, sys.argv[1] + "/plugins/module_utils")
from _ansible.host import bridge_filter, network

PROTOCOL, WAIT_S, FRAMES_MAX = 0x0800, 0.3, 20
SENDER = bytes.fromhex("020000000001")
HEADER = bytes.fromhex("4500002e000000004011000000000000000000000009000900000000")


def ip(words: str) -> None:
    subprocess.run(["ip", *words.split()], check=True)


def port(name: str) -> socket.socket:
    """A new port of br0, by its far end."""
    ip(f"link add {name} type veth peer name far-{name}")
    ip(f"link set far-{name} up")
    ip(f"link set {name} master br0 up")
    out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(PROTOCOL))
    out.bind((f"far-{name}", PROTOCOL))
    out.settimeout(WAIT_S)
    return out


def passes(one: socket.socket, other: socket.socket) -> bool:
    header = bytearray(HEADER)
    header[12:16], header[16:20] = socket.inet_aton("192.0.2.1"), socket.inet_aton("192.0.2.2")
    total = sum(int.from_bytes(header[n : n + 2], "big") for n in range(0, 20, 2))
    total = (total & 0xFFFF) + (total >> 16)
    header[10:12] = (~total & 0xFFFF).to_bytes(2, "big")
    one.send(b"\xff" * 6 + SENDER + PROTOCOL.to_bytes(2, "big") + bytes(header) + bytes(18))
    try:  # the host's own frames may come, too
        return any(other.recv(2048)[6:12] == SENDER for _frame in range(FRAMES_MAX))
    except TimeoutError:
        return False


def main() -> None:
    rules, called, *more = sys.argv[2:]
    subprocess.run(["mount", "-t", "sysfs", "sysfs", "/sys"], check=True)
    Path("/proc/sys/net/bridge/bridge-nf-call-iptables").write_text(called)
    ip(f"link add br0 type bridge {' '.join(more)}")
    ip("link set br0 up")
    one, other = port("p1"), port("p2")
    subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True)
    said = bridge_filter.found()
    print(json.dumps({"passes": passes(one, other), "said": said, "delay_s": network.interfaces()["br0"]["forward_delay_s"]}))


main()
