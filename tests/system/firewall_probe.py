# SPDX-License-Identifier: GPL-3.0-or-later
"""python3 firewall_probe.py, in a network namespace of its own: who gets through to a member's ports, with the table of standard
input loaded? This host has the replication card ``ft0`` (10.77.0.1) and the clients' card ``svc0`` (10.88.0.1)."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

MINE, CLIENTS = "10.77.0.1", "10.88.0.1"
PORTS = (7420, 7421, 9999)
TRY_S = 0.4


def run(words: str, pid: int = 0) -> None:
    enter = ["nsenter", "-t", str(pid), "-n"] if pid else []
    subprocess.run([*enter, *words.split()], check=True)


def namespace() -> int:
    """Another host: a process that only holds its network namespace."""
    process = subprocess.Popen(["unshare", "-n", "sleep", "60"])
    while os.readlink(f"/proc/{process.pid}/ns/net") == os.readlink("/proc/self/ns/net"):
        pass
    return process.pid


def tries(pid: int, source: str, to: str, port: int) -> str:
    code = f"import socket; socket.create_connection(('{to}', {port}), {TRY_S}, ('{source}', 0))"
    words = [*(["nsenter", "-t", str(pid), "-n"] if pid else []), sys.executable, "-c", code]
    return "out" if subprocess.run(words, capture_output=True, check=False).returncode else "in"


def say(who: str, pid: int, source: str, to: str, port: int) -> None:
    print(f"{who} {port}: {tries(pid, source, to, port)}")


def main() -> None:
    text = sys.stdin.read()
    far, client = namespace(), namespace()
    try:
        judge(text, far, client)
    finally:
        for pid in (far, client):
            os.kill(pid, 9)


def judge(text: str, far: int, client: int) -> None:
    run("ip link set lo up")
    for card, address, pid in (("ft0", MINE, far), ("svc0", CLIENTS, client)):
        run(f"ip link add {card} type veth peer name eth0 netns {pid}")
        run(f"ip addr add {address}/24 dev {card}")
        run(f"ip link set {card} up")
        run("ip link set eth0 up", pid)
    for last in (2, 3, 9):
        run(f"ip addr add 10.77.0.{last}/32 dev eth0", far)
    run("ip route add 10.77.0.0/24 dev eth0", far)
    run("ip addr add 10.88.0.7/24 dev eth0", client)
    run(f"ip route add {MINE}/32 via {CLIENTS}", client)
    for name in ("all", "default", "ft0", "svc0"):  # as careless as a host can be
        Path(f"/proc/sys/net/ipv4/conf/{name}/rp_filter").write_text("0")
    listening = [socket.create_server(("0.0.0.0", port)) for port in PORTS]
    before = "without the table, a client"
    say(f"{before} to the replication address", client, "10.88.0.7", MINE, 7420)
    # With a member's address the answers go to the member: it passes them on, as an attacker on the wire would arrange.
    run("ip addr add 10.77.0.2/32 dev lo", client)
    run("ip addr del 10.77.0.2/32 dev eth0", far)
    run("ip route add 10.77.0.2/32 via 10.88.0.7")
    say(f"{before} with a member's address", client, "10.77.0.2", MINE, 7420)
    run("ip route del 10.77.0.2/32 via 10.88.0.7")
    run("ip addr add 10.77.0.2/32 dev eth0", far)
    subprocess.run(["nft", "-f", "-"], input=text, text=True, check=True)
    say("the member", far, "10.77.0.2", MINE, 7420)
    say("the member, disks", far, "10.77.0.2", MINE, 7421)
    say("the witness", far, "10.77.0.3", MINE, 7420)
    say("the witness, disks", far, "10.77.0.3", MINE, 7421)
    say("another host of the replication network", far, "10.77.0.9", MINE, 7420)
    say("a client to the replication address", client, "10.88.0.7", MINE, 7420)
    say("a client to the host's own address", client, "10.88.0.7", CLIENTS, 7420)
    say("a client with a member's address", client, "10.77.0.2", MINE, 7420)
    say("the host itself", 0, MINE, MINE, 7420)
    say("a client to another port", client, "10.88.0.7", CLIENTS, 9999)
    say("another host to another port", far, "10.77.0.9", MINE, 9999)
    for sock in listening:
        sock.close()


if __name__ == "__main__":
    main()
